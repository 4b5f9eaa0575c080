package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// int80 is a system call as 32-bit programs make them.
func int80(nr, a, b, c, d uintptr) int32

// narrow are what this architecture alone has: its ports, calls as 32-bit programs make them, with other numbers (arch/x86/entry/syscalls/syscall_32.tbl), and one by those
// of x32.
func narrow() map[string]trick {
	const x32 = 0x40000000
	return map[string]trick{
		"ioperm":                 raw(unix.SYS_IOPERM, 0x80, 1, 1),
		"iopl":                   raw(unix.SYS_IOPL, 3),
		"32-bit mount":           raw32(21, 0, 0, 0, 0),
		"32-bit unshare user":    raw32(310, unix.CLONE_NEWUSER, 0, 0, 0),
		"32-bit keyctl":          raw32(288, unix.KEYCTL_GET_KEYRING_ID, 0xfffffffd, 0, 0),
		"32-bit bpf":             raw32(357, 0, 1, 40, 0),
		"32-bit userfaultfd":     raw32(374, unix.O_CLOEXEC, 0, 0, 0),
		"32-bit io_uring_setup":  raw32(425, 1, 1, 0, 0),
		"32-bit perf_event_open": raw32(336, 1, 0, ^uintptr(0), ^uintptr(0)),
		"32-bit clone user":      clone32,
		"32-bit init_module":     raw32(128, 1, 1, 1, 0),
		"32-bit vsock":           raw32(359, unix.AF_VSOCK, unix.SOCK_STREAM, 0, 0),
		"x32 mount":              raw(unix.SYS_MOUNT|x32, 0, 0, 0, 0, 0),
	}
}

func raw32(nr, a, b, c, d uintptr) trick {
	return func() (string, error) { return gate(errno32(int80(nr, a, b, c, d))) }
}

func errno32(r int32) error {
	if r < 0 {
		return syscall.Errno(-r)
	}
	return nil
}

func clone32() (string, error) {
	pid := int80(120, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0)
	if pid == 0 {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return gate(errno32(pid))
}
