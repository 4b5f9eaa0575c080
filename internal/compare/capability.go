package compare

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// capabilityXattr is where the kernel keeps the capabilities of a program.
const capabilityXattr = "security.capability"

// Of struct vfs_ns_cap_data (linux/capability.h), revisions 2 and 3: little endian, a word of revision and flags, for each
// 32 capabilities the permitted and the inheritable ones, and in revision 3 the user that is root of its namespace.
const (
	capRevisionMask = 0xff000000
	capRevision2    = 0x02000000
	capRevision3    = 0x03000000
	capEffective    = 1
)

// capabilityNames are those of capabilities by their numbers, without "cap_" (linux/capability.h).
const capabilityNames = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable " +
	"net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace " +
	"sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write " +
	"audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"

// capabilities is the value of that attribute as people write it, "cap_net_raw=ep"; false for what it cannot be.
func capabilities(value string) (string, bool) {
	data := []byte(value)
	if len(data) < 4 {
		return "", false
	}
	magic := binary.LittleEndian.Uint32(data)
	size := map[uint32]int{capRevision2: 20, capRevision3: 24}[magic&capRevisionMask]
	if len(data) != size {
		return "", false
	}
	permitted := uint64(binary.LittleEndian.Uint32(data[4:])) | uint64(binary.LittleEndian.Uint32(data[12:]))<<32
	inheritable := uint64(binary.LittleEndian.Uint32(data[8:])) | uint64(binary.LittleEndian.Uint32(data[16:]))<<32
	var groups []string
	for _, g := range []struct {
		set   uint64
		flags string
	}{{permitted &^ inheritable, "p"}, {permitted & inheritable, "ip"}, {inheritable &^ permitted, "i"}} {
		if g.set == 0 {
			continue
		}
		if magic&capEffective != 0 {
			g.flags = "e" + g.flags
		}
		groups = append(groups, capabilityList(g.set)+"="+g.flags)
	}
	text := strings.Join(groups, " ")
	if size == 24 {
		if root := binary.LittleEndian.Uint32(data[20:]); root != 0 {
			text += fmt.Sprintf(" [rootid=%d]", root)
		}
	}
	return strings.TrimSpace(text), true
}

func capabilityList(set uint64) string {
	names := strings.Fields(capabilityNames)
	var list []string
	for i := range 64 {
		switch {
		case set>>i&1 == 0:
		case i < len(names):
			list = append(list, "cap_"+names[i])
		default:
			list = append(list, fmt.Sprint(i))
		}
	}
	return strings.Join(list, ",")
}
