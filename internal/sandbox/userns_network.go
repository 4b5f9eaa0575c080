package sandbox

import (
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// takeNetwork takes the network namespace that the sandbox is to enter out of the plan: where it has a user namespace of its
// own it may not enter one that is not, nor change its settings. It begins in it instead.
func (p *plan) takeNetwork() (path string, settings []keyValue) {
	p.Join = slices.DeleteFunc(slices.Clone(p.Join), func(j join) bool {
		if j.Flag == unix.CLONE_NEWNET {
			path = j.Path
		}
		return j.Flag == unix.CLONE_NEWNET
	})
	if path == "" {
		return "", nil
	}
	p.Sysctl = slices.DeleteFunc(slices.Clone(p.Sysctl), func(s keyValue) bool {
		ofNetwork := strings.HasPrefix(s.Key, "net.") || strings.HasPrefix(s.Key, "net/")
		if ofNetwork {
			settings = append(settings, s)
		}
		return ofNetwork
	})
	return path, settings
}

// inNetwork runs do on a thread in the network namespace path, and waits for it. There may be no way back from there, so
// that the thread is not used again.
func inNetwork(path string, settings []keyValue, do func(error)) {
	end := make(chan struct{})
	go func() {
		defer close(end)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread() // it never ends; while it is held here the next goroutine gets another
			inNetwork(path, settings, do)
			return
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err != nil {
			err = fail("enter namespace "+path, err)
		}
		for _, s := range settings {
			name := s.Key
			if !strings.Contains(name, "/") { // else dots are part of a name, as interfaces have
				name = strings.ReplaceAll(name, ".", "/")
			}
			if err == nil {
				err = writeFile("/proc/sys/"+name, s.Value)
			}
		}
		do(err)
	}()
	<-end
}
