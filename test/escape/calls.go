package main

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// nowhere is a path that no machine has.
var nowhere = []byte("/nacre-escape-nowhere\x00")

// calls are system calls that are about the machine as a whole.
func calls() map[string]trick {
	return map[string]trick{
		"acct":              raw(unix.SYS_ACCT, address(nowhere)),
		"adjtimex":          adjtimex,
		"bpf":               bpfMap,
		"clock_settime":     raw(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, 0),
		"delete_module":     raw(unix.SYS_DELETE_MODULE, address(nowhere), 0),
		"fanotify_init":     raw(unix.SYS_FANOTIFY_INIT, 0, 0),
		"finit_module":      raw(unix.SYS_FINIT_MODULE, ^uintptr(0), 0, 0),
		"init_module":       raw(unix.SYS_INIT_MODULE, 0, 0, 0),
		"io_uring_setup":    ioUring,
		"kexec_load":        raw(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0xff),
		"keyctl":            raw(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0), // the session's
		"add_key":           raw(unix.SYS_ADD_KEY, address([]byte("user\x00")), address([]byte("nacre-escape\x00")), address([]byte("x")), 1, ^uintptr(1)),
		"request_key":       raw(unix.SYS_REQUEST_KEY, address([]byte("user\x00")), address(nowhere), 0, 0),
		"perf_event_open":   perfEvent,
		"personality":       raw(unix.SYS_PERSONALITY, 0x40000), // no random addresses
		"reboot":            raw(unix.SYS_REBOOT, 0xbad, 0xbad, 0, 0),
		"sethostname":       sameHostname,
		"setpriority":       raw(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, ^uintptr(4)),
		"swapon":            raw(unix.SYS_SWAPON, address(nowhere), 0),
		"swapoff":           raw(unix.SYS_SWAPOFF, address(nowhere)),
		"syslog":            raw(unix.SYS_SYSLOG, 3, 0, 0),
		"userfaultfd":       raw(unix.SYS_USERFAULTFD, unix.O_CLOEXEC),
		"network settings":  sameLoopback,
		"clock_adjtime":     raw(unix.SYS_CLOCK_ADJTIME, 0, address(nonsenseTime)),
		"settimeofday":      raw(unix.SYS_SETTIMEOFDAY, 0, 1),
		"setdomainname":     raw(unix.SYS_SETDOMAINNAME, 0, 100),
		"quotactl":          raw(unix.SYS_QUOTACTL, 0x80000700, address(nowhere), 0, 0), // Q_GETINFO
		"fspick":            raw(unix.SYS_FSPICK, ^uintptr(0), address(nowhere), 0),
		"crypto socket":     gated(func() error { _, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0); return err }),
		"open_by_handle_at": byHandle,
	}
}

// adjtimex asks for a length of the tick that no clock has.
func adjtimex() (string, error) {
	_, err := unix.Adjtimex(&unix.Timex{Modes: 0x4000, Tick: 0})
	return gate(err)
}

// nonsenseTime is a struct timex like that.
var nonsenseTime = func() []byte {
	tx := &unix.Timex{Modes: 0x4000}
	return unsafe.Slice((*byte)(unsafe.Pointer(tx)), unsafe.Sizeof(*tx))
}()

func bpfMap() (string, error) {
	attr := struct{ kind, key, value, entries, flags uint32 }{2, 4, 4, 1, 0} // an array
	_, _, errno := unix.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	return gate(orNil(errno))
}

func orNil(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func ioUring() (string, error) {
	var params [120]byte
	_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, address(params[:]), 0)
	return gate(orNil(errno))
}

// perfEvent counts all of the machine's processor time.
func perfEvent() (string, error) {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	_, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	return gate(err)
}

func sameHostname() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return gate(unix.Sethostname([]byte(name)))
}

// sameLoopback gives the loopback interface the flags that it has.
func sameLoopback() (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return "", err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return "", err
	}
	return gate(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
}
