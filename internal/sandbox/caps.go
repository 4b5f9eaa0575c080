package sandbox

import (
	"fmt"
	"os"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capNames are the capabilities by number (include/uapi/linux/capability.h).
const capNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE " +
	"NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE " +
	"SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE " +
	"AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF " +
	"CHECKPOINT_RESTORE"

// lastCap is the highest capability this program knows. A kernel may know less or
// more; all that are not asked for are dropped up to the kernel's last.
const lastCap = 40

var capNumbers = sync.OnceValue(func() map[string]int {
	m := map[string]int{}
	for i, name := range strings.Fields(capNames) {
		m["CAP_"+name] = i
	}
	return m
})

// capSets are the five sets of a process as bit masks.
type capSets struct {
	Bounding, Effective, Permitted, Inheritable, Ambient uint64
}

// newCapSets reads the sets of a spec; nil is no capability at all, as in runc.
func newCapSets(c *specs.LinuxCapabilities) (capSets, error) {
	var s capSets
	if c == nil {
		return s, nil
	}
	for _, set := range []struct {
		bits  *uint64
		names []string
	}{
		{&s.Bounding, c.Bounding}, {&s.Effective, c.Effective}, {&s.Permitted, c.Permitted},
		{&s.Inheritable, c.Inheritable}, {&s.Ambient, c.Ambient},
	} {
		for _, name := range set.names {
			n, ok := capNumbers()[name]
			if !ok {
				return s, fmt.Errorf("unknown capability %q", name)
			}
			*set.bits |= 1 << n
		}
	}
	return s, nil
}

// AllCapabilities are those this process has itself: all that it can give.
func AllCapabilities() ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, os.NewSyscallError("capget", err)
	}
	var names []string
	for n, name := range strings.Fields(capNames) {
		if data[n/32].Permitted&(1<<(n%32)) != 0 {
			names = append(names, "CAP_"+name)
		}
	}
	return names, nil
}

// DefaultCapabilities are the fourteen Docker gives.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// KnownCapability tells whether there is a capability of this name: CAP_CHOWN.
func KnownCapability(name string) bool {
	_, ok := capNumbers()[name]
	return ok
}
