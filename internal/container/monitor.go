package container

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"nacre/internal/registry/store"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Streams are what a container is connected to that runs in this process.
type Streams struct {
	Stdin          io.Reader // nil: it has no input
	Stdout, Stderr io.Writer // nil: dropped; equal values keep the order of what is written
	Signals        <-chan os.Signal
	Resize         <-chan sandbox.Size
	Size           sandbox.Size // of the terminal at the start; zero: not known
	Note           func(string) // gets what the user is to know once the program was executed; may be nil
}

// monitor runs one container, as often as its restart policy says, keeps its state, and serves its socket.
type monitor struct {
	c       *Container
	lock    *Lock
	out     output
	signals chan os.Signal
	resize  chan sandbox.Size
	// open opens the store again, of a monitor that does not keep it open.
	open func(context.Context) (*store.Store, error)

	listening func() error // listens on the socket, once
	listener  net.Listener
	conns     sync.WaitGroup
	ended     chan struct{} // closed when all is written down and the lock is free
	halt      chan struct{} // closed by the first stop: it is not started again
	haltOnce  sync.Once
	goAhead   chan struct{} // closed when who started this process says so
	goOnce    sync.Once

	mu       sync.Mutex
	state    State
	last     reply // how it ended the last time
	size     sandbox.Size
	stdin    *os.File // where its input is written to; nil: it has none now
	waiting  map[chan reply]bool
	starting *viewer // is told that the program was executed
	frozen   *freezer
	owners   *sandbox.Owners  // of links, where they are recorded
	runtime  *sandbox.Runtime // runs it; nil: we do. It is set before the first process starts
	process  *specs.Process   // of the spec that it runs by; nil: it does not run
	seccomp  *specs.LinuxSeccomp
	limits   []string // cgroups that were made since it was started

	updating sync.Mutex     // held while the limits are changed
	unmounts sync.WaitGroup // of what was mounted for a run that has ended
}

func newMonitor(c *Container, lock *Lock) *monitor {
	m := &monitor{
		c: c, lock: lock, state: c.State, signals: make(chan os.Signal, 16), resize: make(chan sandbox.Size, 1),
		ended: make(chan struct{}), halt: make(chan struct{}), goAhead: make(chan struct{}), waiting: map[chan reply]bool{},
	}
	m.listening = sync.OnceValue(m.listen)
	m.state.Stopped, m.state.Error = false, ""
	m.out.log = newLogWriter(c.dir, c.Config.Log, m.logFault)
	return m
}

// logFault notes that the log cannot be written, or can again.
func (m *monitor) logFault(err error) {
	m.set(func(st *State) {
		if err != nil {
			st.LogError = err.Error()
		} else {
			st.LogError += " (until " + time.Now().UTC().Format(time.RFC3339) + ")"
		}
	})
}

// Run starts a container in this process and waits for its end: this is its monitor then. The caller
// hands over the lock, and finds the container removed if it was to be.
//
// The error is nil if the process ran, whatever its exit code; else see sandbox.Run.
func (c *Container) Run(ctx context.Context, lock *Lock, s Streams) (sandbox.Status, error) {
	m := newMonitor(c, lock)
	m.size = s.Size
	go func() {
		for sig := range s.Signals {
			m.signals <- sig
		}
	}()
	if s.Resize != nil {
		go func() {
			for size := range s.Resize {
				m.resized(size)
			}
		}()
	}
	return m.run(ctx, s)
}

// run runs the container to its last end.
func (m *monitor) run(ctx context.Context, s Streams) (status sandbox.Status, err error) {
	go m.listening() // while all is put together
	go m.watchFolder()
	b := backoff{}
	for {
		began := time.Now()
		status, err = m.once(ctx, s)
		if !m.again(ctx, status, err) {
			break
		}
		m.partial()
		m.set(func(st *State) { st.Status = StatusRestarting })
		select {
		case <-m.halt:
		case <-ctx.Done():
		case <-time.After(b.next(time.Since(began))):
		}
		if m.halted() || ctx.Err() != nil {
			m.set(func(st *State) { st.Status = StatusExited })
			break
		}
		m.set(func(st *State) { st.Restarts++ })
	}
	return status, m.finish(err)
}

// once runs the container's process once.
func (m *monitor) once(ctx context.Context, s Streams) (sandbox.Status, error) {
	p := &parts{c: m.c}
	m.unmounts.Wait() // of an earlier run, whose writable side this one's is
	err := m.reopen(ctx)
	if err == nil {
		p, err = m.container().compose(ctx)
	}
	if err == nil {
		err = m.listening()
	}
	if err == nil {
		m.runtime, err = m.c.runtime()
	}
	defer p.close()
	if err != nil {
		m.failed(err)
		return sandbox.Status{}, err
	}
	config := sandbox.Config{
		Spec: p.spec, Root: p.root, Files: p.files, Trees: p.trees, Init: m.c.Config.Init,
		Signals: m.signals, Resize: m.resize, Unmounts: &m.unmounts,
	}
	if config.Owners, err = m.keptOwners(); err != nil {
		m.failed(err)
		return sandbox.Status{}, err
	}
	config.Stdout, config.Stderr = m.writers(s)
	closeStdin, err := m.openStdin(&config, s)
	if err != nil {
		m.failed(err)
		return sandbox.Status{}, err
	}
	defer closeStdin()
	if len(p.created) > 0 {
		config.Created = p.whenCreated
	}
	if size := m.terminalSize(); size != (sandbox.Size{}) {
		p.spec.Process.ConsoleSize = &specs.Box{Width: uint(size.Width), Height: uint(size.Height)}
	}
	ctx, cancel := context.WithCancel(ctx)
	var checks sync.WaitGroup
	config.Started = func(st sandbox.Started) {
		if len(p.undo) == 0 { // else something of the store is needed to the end
			m.release()
		}
		m.started(st, p.network)
		checks.Go(func() { m.checkHealth(ctx, p.spec, st) })
		m.runsBy(p.spec)
		if s.Note != nil {
			for _, text := range p.network.Notes {
				s.Note(text)
			}
		}
	}
	status, err := m.runWith(ctx, config)
	cancel()
	m.runsBy(nil)
	m.dropSignals()
	checks.Wait()
	m.out.log.end()
	m.exited(status, err)
	return status, err
}

// container is the container as it is asked to be by now.
func (m *monitor) container() *Container {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := *m.c
	return &c
}

// dropSignals forgets signals that came too late: they are not for the container's next process.
func (m *monitor) dropSignals() {
	for {
		select {
		case <-m.signals:
		default:
			return
		}
	}
}

// writers are where the container's output goes.
func (m *monitor) writers(s Streams) (stdout, stderr io.Writer) {
	stdout = m.out.stream("stdout", s.Stdout)
	if s.Stdout != nil && sameFiles(s.Stdout, s.Stderr) {
		return stdout, stdout
	}
	return stdout, m.out.stream("stderr", s.Stderr)
}

// sameFiles tells whether two writers are one file, so that the order of what is written to both counts.
func sameFiles(a, b io.Writer) bool {
	f, ok := a.(*os.File)
	g, ok2 := b.(*os.File)
	return ok && ok2 && sameFile(f, g)
}

func (m *monitor) terminalSize() sandbox.Size {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size
}

// resized passes a new size of the terminal on; one that nobody took yet is forgotten.
func (m *monitor) resized(size sandbox.Size) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size = size
	select {
	case <-m.resize:
	default:
	}
	m.resize <- size
}

// whenCreated does what the areas want done from outside before the program is executed.
func (p *parts) whenCreated(ctx context.Context, pid int) error {
	for _, f := range p.created {
		if err := f(ctx, pid); err != nil {
			return err
		}
	}
	return nil
}

// reopen has the store open.
func (m *monitor) reopen(ctx context.Context) (err error) {
	if m.c.cs.s == nil {
		m.c.cs.s, err = m.open(context.WithoutCancel(ctx))
	}
	return err
}

// release closes the store where it can be opened again: nothing of it is needed while the container runs.
func (m *monitor) release() {
	if m.open != nil && m.c.cs.s != nil {
		m.c.cs.s.Close()
		m.c.cs.s = nil
	}
}

// finish is the end: the container is removed if it is to be, the lock is let go, and all who wait are told.
func (m *monitor) finish(err error) error {
	m.release()
	if m.listening() == nil {
		m.listener.Close()
	}
	m.out.log.close()
	if m.c.Config.AutoRemove && !m.storeGone() {
		rerr := m.reopen(context.Background())
		if rerr == nil {
			rerr = m.c.drop(context.Background())
		}
		if rerr != nil {
			m.set(func(*State) {}) // it stays, and what setLast left out is to be seen
		}
		err = errors.Join(err, rerr)
		m.release()
	} else {
		m.unmounts.Wait() // the next who has the lock may start it
	}
	m.lock.Unlock()
	close(m.ended)
	m.partial()
	m.conns.Wait()
	return err
}

// partial tells those who are attached, or wait for any end, of an end.
func (m *monitor) partial() {
	m.mu.Lock()
	r, final := m.last, m.isEnded()
	starting := m.starting
	m.starting = nil
	for w, next := range m.waiting {
		if next || final {
			w <- r
			delete(m.waiting, w)
		}
	}
	m.mu.Unlock()
	for _, v := range m.out.all() {
		m.out.detach(v)
		v.finish(&r)
		v.drop()
	}
	if starting != nil { // attached to nothing, and not told yet
		starting.finish(&r)
		starting.drop()
	}
}

func (m *monitor) isEnded() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

func (m *monitor) halted() bool {
	select {
	case <-m.halt:
		return true
	default:
		return false
	}
}

// signal sends a signal to the container's first process.
func (m *monitor) signal(sig syscall.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.state.Status.Alive() || m.state.Status == StatusRestarting {
		return ErrNotRunning
	}
	select {
	case m.signals <- sig:
		return nil
	default:
		return errors.New("it takes no more signals: there are many on their way to it")
	}
}
