package sandbox

import (
	"fmt"
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// typeOf is the type of a bind mount whose source is a number of a process, a NUL, and a path that it sees.
const typeOf = "nacre-of"

// MountOf is a bind mount of what a process in another mount namespace sees at a path, which is
// no symlink and leads over none.
func MountOf(dest string, pid int, path string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: typeOf, Source: strconv.Itoa(pid) + "\x00" + path, Options: options}
}

// openForeign takes a copy of what is mounted in another namespace, which only a member of it can: this thread is one
// for a moment.
func openForeign(pid, path string) (fd int, err error) {
	own, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(own)
	other, err := unix.Open("/proc/"+pid+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(other)
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // else other threads would come along, which is refused
		return -1, os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(other, unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("enter the other container's mounts: %w", err)
	}
	defer func() {
		if back := unix.Setns(own, unix.CLONE_NEWNS); back != nil && err == nil {
			unix.Close(fd)
			fd, err = -1, back
		}
	}()
	at, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return -1, err
	}
	defer unix.Close(at)
	return openTree(at, "", unix.AT_EMPTY_PATH)
}
