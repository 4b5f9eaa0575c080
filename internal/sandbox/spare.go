package sandbox

import (
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Starting a copy of this program and its namespaces takes as long as all that the copy
// then does. Who knows that it will run something can have that done beforehand.

// spareTime is how long a spare copy waits to be used. It has a copy of the mounts
// there were when it started, which should not be held on to for long.
const spareTime = 10 * time.Second

// spares are copies that wait, by their namespaces.
var spares struct {
	sync.Mutex
	waiting map[uintptr]*spare
}

type spare struct {
	ready    chan struct{} // closed when the other fields are set
	launched *launched
	err      error
	expire   *time.Timer
}

// Warm prepares for a Run that is likely to come within seconds, of a spec with the same
// namespaces: the Run after it finds half of its work done. It returns at once. A copy
// that is not used goes away by itself; mounts that are made on the host after Warm may
// not be seen by the Run, where it is to bind them.
func Warm(s *specs.Spec) {
	if s == nil || s.Linux == nil || hasLimits(s.Linux) || direct(s) {
		return
	}
	flags := cloneFlags(s)
	spares.Lock()
	defer spares.Unlock()
	if spares.waiting[flags] != nil {
		return
	}
	if spares.waiting == nil {
		spares.waiting = map[uintptr]*spare{}
	}
	sp := &spare{ready: make(chan struct{})}
	spares.waiting[flags] = sp
	sp.expire = time.AfterFunc(spareTime, func() { dropSpare(flags, sp) })
	go func() {
		defer close(sp.ready)
		sp.launched, sp.err = launch(flags)
	}()
}

// Cool lets go of copies that were not used.
func Cool() {
	spares.Lock()
	all := spares.waiting
	spares.waiting = nil
	spares.Unlock()
	for _, sp := range all {
		sp.discard()
	}
}

// dropSpare lets go of a spare that was not used in time.
func dropSpare(flags uintptr, sp *spare) {
	spares.Lock()
	unused := spares.waiting[flags] == sp
	if unused {
		delete(spares.waiting, flags)
	}
	spares.Unlock()
	if unused {
		sp.discard()
	}
}

// discard ends a spare and waits for its end.
func (sp *spare) discard() {
	sp.expire.Stop()
	<-sp.ready
	if sp.err == nil {
		unix.Close(sp.launched.socket)
		sp.launched.process.Kill()
		<-sp.launched.done
	}
}

// takeOrLaunch is a copy in namespaces of these flags, a spare one if there is.
func takeOrLaunch(flags uintptr) (*launched, error) {
	spares.Lock()
	sp := spares.waiting[flags]
	delete(spares.waiting, flags)
	spares.Unlock()
	if sp == nil {
		return launch(flags)
	}
	sp.expire.Stop()
	<-sp.ready
	if sp.err != nil {
		return launch(flags)
	}
	select {
	case <-sp.launched.done: // somebody killed it
		unix.Close(sp.launched.socket)
		return launch(flags)
	default:
		return sp.launched, nil
	}
}
