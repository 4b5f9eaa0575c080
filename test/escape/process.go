package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clone makes a process that does nothing, in new namespaces.
func clone(flags uintptr) trick {
	return func() (string, error) {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && pid == 0 {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return gate(orNil(errno))
	}
}

// clone3 does so by the newer call, whose flags are in memory, where no filter sees them: it has to be refused as a whole.
func clone3(flags uint64) trick {
	return func() (string, error) {
		args := struct{ flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls uint64 }{flags: flags, exitSignal: uint64(unix.SIGCHLD)}
		pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
		if errno == 0 && pid == 0 {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if errno == unix.ENOSYS { // as if it was an old kernel, which the other tricks show that it is not
			return "", fmt.Errorf("clone3 is not known: %w", errno)
		}
		return gate(orNil(errno))
	}
}

func namespaces() map[string]trick {
	return map[string]trick{
		"unshare user":      raw(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
		"unshare mount":     raw(unix.SYS_UNSHARE, unix.CLONE_NEWNS),
		"unshare cgroup":    raw(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP),
		"unshare network":   raw(unix.SYS_UNSHARE, unix.CLONE_NEWNET),
		"clone user":        clone(unix.CLONE_NEWUSER),
		"clone user, mount": clone(unix.CLONE_NEWUSER | unix.CLONE_NEWNS),
		"clone3 user":       clone3(unix.CLONE_NEWUSER),
		"clone3 time":       clone3(unix.CLONE_NEWTIME),
		"unshare time":      raw(unix.SYS_UNSHARE, unix.CLONE_NEWTIME),
		"setns of init":     setnsInit,
		"setns by pidfd":    setnsOutside,
	}
}

// setnsInit enters a namespace of the first process.
func setnsInit() (string, error) {
	fd, err := unix.Open("/proc/1/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	return gate(unix.Setns(fd, unix.CLONE_NEWUTS))
}

func setnsOutside() (string, error) {
	fd, err := outside()
	if err != nil {
		return "", err
	}
	return gate(unix.Setns(fd, unix.CLONE_NEWUTS))
}

// outsidePid is a process that is none of the container's.
func outsidePid() (int, error) {
	text, err := fact("PID")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

func outside() (pidfd int, err error) {
	pid, err := outsidePid()
	if err != nil {
		return -1, err
	}
	return unix.PidfdOpen(pid, 0)
}

func processes() map[string]trick {
	return map[string]trick{
		"ptrace":           seize,
		"read its memory":  peek,
		"take its file":    takeFile,
		"signal":           func() (string, error) { return onPid(func(pid int) error { return unix.Kill(pid, 0) }) },
		"signal by pidfd":  signalOutside,
		"signal a session": sameGroup,
		"descriptors":      descriptors,
		"secret":           func() (string, error) { return secretAt(waysIn()...) },
		"working directory": func() (string, error) {
			return secretAt(".", "..", "../..", "../../..", "../../../..", "../../../../..", "../../../../../../../../../..")
		},
	}
}

func onPid(f func(pid int) error) (string, error) {
	pid, err := outsidePid()
	if err == nil {
		err = f(pid)
	}
	return "done", err
}

func seize() (string, error) {
	return onPid(func(pid int) error {
		_, _, errno := syscall.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0)
		return orNil(errno)
	})
}

// peek reads from where the process has its program.
func peek() (string, error) {
	return onPid(func(pid int) error {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil {
			return err
		}
		start, _, _ := strings.Cut(string(maps), "-")
		at, err := strconv.ParseUint(start, 16, 64)
		if err != nil {
			return err
		}
		buf := make([]byte, 4)
		_, err = unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: 4}}, []unix.RemoteIovec{{Base: uintptr(at), Len: 4}}, 0)
		return err
	})
}

func takeFile() (string, error) {
	fd, err := outside()
	if err == nil {
		_, err = unix.PidfdGetfd(fd, 0, 0)
	}
	return "its standard input", err
}

func signalOutside() (string, error) {
	fd, err := outside()
	if err == nil {
		err = unix.PidfdSendSignal(fd, 0, nil, 0)
	}
	return "done", err
}

// sameGroup looks whether there is a process outside in its group or session: a signal to the group would reach it,
// and the session has a terminal. Those have no number in here.
func sameGroup() (string, error) {
	group := unix.Getpgrp()
	session, err := unix.Getsid(0)
	if err != nil {
		return "", err
	}
	if group == 0 || session == 0 {
		return fmt.Sprintf("group %d, session %d", group, session), nil
	}
	return "", fmt.Errorf("group %d and session %d are of here", group, session)
}

// descriptors looks for open files that are not the standard ones, or are of the kind that leads somewhere.
func descriptors() (string, error) {
	var found []string
	for fd := range 1024 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		switch kind := st.Mode & unix.S_IFMT; {
		case name == "anon_inode:[eventpoll]" || name == "anon_inode:[eventfd]" || name == "anon_inode:[pidfd]": // Go's own
		case fd > 2 && strings.HasPrefix(name, "/sys/fs/cgroup/cpu"): // Go's, too
		case fd > 2, kind == unix.S_IFDIR, kind == unix.S_IFREG, kind == unix.S_IFSOCK:
			found = append(found, fmt.Sprintf("%d %s", fd, name))
		}
	}
	if found != nil {
		return strings.Join(found, ", "), nil
	}
	return "", fmt.Errorf("three streams and no more")
}

// waysIn are names that the machine's root may have in here.
func waysIn() []string {
	ways := []string{"/", "/..", "/proc/1/root", "/proc/1/cwd", "/proc/self/root/..", "/proc/1/root/../../..", "/proc/self/cwd/../../../../.."}
	if pid, err := outsidePid(); err == nil {
		ways = append(ways, fmt.Sprintf("/proc/%d/root", pid), fmt.Sprintf("/proc/%d/cwd/../../../../../../..", pid))
	}
	for _, pattern := range []string{"/proc/*/root", "/proc/*/cwd", "/proc/*/fd/*", "/dev/fd/*"} {
		found, _ := filepath.Glob(pattern)
		for _, name := range found[:min(len(found), 300)] { // of the whole machine's there are many
			ways = append(ways, name, name+"/../../../../../../../../../..")
		}
	}
	return ways
}

// secretAt reads the file that only the machine has, at some names of its root.
func secretAt(roots ...string) (string, error) {
	name, err := fact("SECRET")
	if err != nil {
		return "", err
	}
	for _, root := range roots {
		data, rerr := os.ReadFile(root + "/" + strings.TrimPrefix(name, "/"))
		if rerr == nil && strings.HasPrefix(string(data), "escape-secret") {
			return "read at " + root, nil
		}
		err = rerr
	}
	if err == nil {
		err = fmt.Errorf("another file")
	}
	return "", err
}

func printSecret([]string) error {
	got, err := secretAt(waysIn()...)
	if err == nil {
		fmt.Println(got)
	}
	return err
}
