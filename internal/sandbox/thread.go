package sandbox

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on a thread of its own, which ends with it: f may change what belongs to a
// thread, such as its namespaces.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f() // a goroutine that ends on a locked thread takes it along
			return
		}
		// The first thread is the process to many: /proc/self is about it. While this
		// goroutine occupies it no other runs on it.
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			f()
		}()
		<-done
		runtime.UnlockOSThread()
	}()
}

// goHome brings the calling thread back to the namespaces of the process.
func goHome(flags int) error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	return os.NewSyscallError("setns", unix.Setns(fd, flags))
}

// blockSignals blocks all signals of the calling thread; the function returned undoes it.
func blockSignals() (restore func(), err error) {
	all, old := unix.Sigset_t{}, unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return nil, os.NewSyscallError("rt_sigprocmask", err)
	}
	return func() { unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }, nil
}
