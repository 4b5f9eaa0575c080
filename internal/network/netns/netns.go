// Package netns makes network namespaces that nothing but a descriptor holds, and does
// things in them.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// own is the calling thread's namespace. /proc/self is that of the process's first thread.
const own = "/proc/thread-self/ns/net"

// New makes a namespace, with loopback in it. It is gone when the descriptor is closed and nobody is in it: then, or
// when this process is killed.
func New() (*os.File, error) {
	var made *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("set loopback up: %w", err)
		}
		var err error
		made, err = os.Open(own)
		return err
	})
	if err != nil {
		if made != nil {
			made.Close()
		}
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return made, nil
}

// Do calls f on a thread that is in the namespace. Sockets made there belong to it for
// good, wherever they are used later. f must not start goroutines that are to be in it, too.
func Do(ns *os.File, f func() error) error {
	var inner error
	err := onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		inner = f()
		return nil
	})
	runtime.KeepAlive(ns)
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	return inner
}

// onThread calls f, which changes its thread's namespace, and changes that back. A thread
// with which this fails is not used any more.
func onThread(f func() error) error {
	done := make(chan error)
	// A goroutine of its own: what the caller started from its thread must not die with it.
	go func() {
		runtime.LockOSThread()
		before, err := os.Open(own)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer before.Close()
		err = f()
		if back := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Socket makes a socket in the namespace, which does not block.
func Socket(ns *os.File, domain, kind int) (fd int, err error) {
	err = Do(ns, func() error {
		fd, err = unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	return fd, err
}

// Path is where others find the namespace, children in namespaces of their own among them.
func Path(ns *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()) }

// loopbackUp sets the device of the thread's namespace up (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
