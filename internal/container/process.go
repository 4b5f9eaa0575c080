package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"nacre/internal/registry/store"
	"nacre/internal/sandbox"

	"golang.org/x/sys/unix"
)

// monitorName is the name under which this program is started again as a monitor; the root of the store and
// the container's ID follow.
const monitorName = "nacre: monitor"

// Descriptors of a monitor: the container's lock, and a connection to who started it.
const (
	lockFd = 3
	connFd = 4
)

// Init must be called before anything else in main, after sandbox.Init: in a copy of this program that
// Start started, it is a container's monitor and does not return.
func Init() {
	if os.Args[0] != monitorName {
		return
	}
	if len(os.Args) != 3 {
		os.Exit(2)
	}
	// What is typed to stop those who started us is not for us.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	unix.CloseOnExec(lockFd)
	unix.CloseOnExec(connFd)
	if runMonitor(os.Args[1], os.Args[2]) != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func runMonitor(root, id string) error {
	debug.SetGCPercent(50) // it has little to do and may be one of hundreds
	ctx := context.Background()
	f := os.NewFile(connFd, "connection")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return err
	}
	lock := &Lock{os.NewFile(lockFd, "lock")}
	open := func(ctx context.Context) (*store.Store, error) { return store.Open(ctx, root, store.Options{}) }
	c, err := monitored(ctx, open, id)
	if err != nil {
		writeMessage(conn, frameReply, reply{Error: err.Error(), Code: 125})
		return err
	}
	m := newMonitor(c, lock)
	m.open = open
	m.conns.Go(func() { m.serve(conn) })
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		<-asked // the machine is shut down, perhaps
		m.stop(0, m.c.Config.StopGrace())
	}()
	<-m.goAhead
	_, err = m.run(ctx, Streams{})
	return err
}

// monitored finds the container a monitor was started for.
func monitored(ctx context.Context, open func(context.Context) (*store.Store, error), id string) (*Container, error) {
	s, err := open(ctx)
	if err != nil {
		return nil, err
	}
	cs := &Containers{s: s}
	rows, err := s.ContainersLike(ctx, id)
	if err == nil && len(rows) != 1 {
		err = &notFoundError{id}
	}
	if err != nil {
		return nil, err
	}
	c := &Container{ID: rows[0].ID, Name: rows[0].Name, Created: rows[0].Created, cs: cs, dir: s.ContainerDir(id)}
	if err := c.readConfig(); err != nil {
		return nil, err
	}
	c.State, err = readState(c.dir)
	return c, err
}

// spawn starts a monitor for a container whose lock the caller has, and now no more.
func (c *Container) spawn(lock *Lock) (net.Conn, error) {
	defer lock.Unlock()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "connection"), os.NewFile(uintptr(pair[1]), "connection")
	defer ours.Close()
	defer theirs.Close()
	sandbox.OwnDescriptors()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{monitorName, c.cs.s.Root(), c.ID}, &os.ProcAttr{
		Env: os.Environ(), Dir: "/", Files: []*os.File{null, null, null, lock.file, theirs},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start monitor: %w", err)
	}
	go p.Wait() // it may end before we do
	return net.FileConn(ours)
}

// errNoMonitor: the container's monitor ended before it could answer.
var errNoMonitor = errors.New("the container's monitor ended unexpectedly")
