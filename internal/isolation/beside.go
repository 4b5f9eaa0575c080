package isolation

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Namespaces of a container (network, processes, shared memory) belong to the user namespace that it was started in. Only who
// has rights there gets into them, so what shares them with it is started in the same one: who owns a user namespace has all
// rights in it from outside, and may enter it (user_namespaces(7)).

// inOther adds calls that enter the user namespace of the process that the choice is beside.
func (s *entry) inOther(refused uintptr) (int, error) {
	fd, err := s.choice.openOther()
	if err != nil {
		return 0, err
	}
	begin := s.add(call{nr: unix.SYS_SETNS, args: [6]uintptr{uintptr(fd), unix.CLONE_NEWUSER}, fail: refused})
	s.add(call{nr: unix.SYS_CLOSE, args: [6]uintptr{uintptr(fd)}, fail: refused})
	s.add(call{nr: unix.SYS_UNSHARE, args: [6]uintptr{unix.CLONE_NEWNS}, fail: refused})
	return begin, nil
}

// openOther opens the user namespace, which has to be the user's own and to have the ids that one made now would have.
func (c Choice) openOther() (int, error) {
	dir := fmt.Sprintf("/proc/%d/", c.Beside)
	fd, err := unix.Open(dir+"ns/user", unix.O_RDONLY, 0) // and it stays open, for the script
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir + "ns/user", Err: err}
	}
	var owner uint32
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.NS_GET_OWNER_UID, uintptr(unsafe.Pointer(&owner))); errno != 0 {
		err = os.NewSyscallError("ioctl", errno)
	} else if int(owner) != c.UID {
		err = fmt.Errorf("it belongs to %s", userName(int(owner)))
	}
	for _, m := range []struct {
		file   string
		own    int
		ranges []Range
	}{{"uid_map", c.UID, c.UIDs}, {"gid_map", c.GID, c.GIDs}} {
		if err != nil {
			break
		}
		var list []Mapping
		if list, err = readMap(dir + m.file); err == nil && !slices.Equal(list, mappings(m.own, m.ranges)) {
			err = errors.New("it has other ids than isolation " + string(c.Kind) + " gives: it was started with another one")
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// mappings are a map with a user's own id as root, and ranges after it.
func mappings(own int, ranges []Range) []Mapping {
	list := []Mapping{{0, uint32(own), 1}}
	next := uint32(1)
	for _, r := range ranges {
		list = append(list, Mapping{next, r.Start, r.Count})
		next += r.Count
	}
	return list
}
