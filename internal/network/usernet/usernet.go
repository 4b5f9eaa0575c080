// Package usernet gives a network namespace a way out through a program that needs no rights:
// pasta, or slirp4netns. What the namespace sends they send on as an ordinary program would.
package usernet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNone says that neither program is installed.
var ErrNone = errors.New("neither pasta nor slirp4netns is installed")

// Space is the namespace.
type Space struct {
	Pid int // of a process in it, and in the user namespace that owns it; or 0, and:
	// Namespace is an open one, which belongs to our own user namespace.
	Namespace *os.File
}

// Process is a running program.
type Process struct {
	// DNS is an address that stands for the host's resolvers.
	DNS  netip.Addr
	Name string

	cmd  *exec.Cmd
	done chan struct{}
	free func()
}

// program is one of the two.
type program struct {
	name string
	dns  string
	// args for a namespace; ready is where the program says that it has done its work.
	args func(s Space, ready string) []string
}

// tunDevice makes network interfaces whose other end is a program.
const tunDevice = "/dev/net/tun"

// patience is how long a program may take to get ready.
const patience = 10 * time.Second

// programs are in the order they are tried.
func programs() []program {
	return []program{{"pasta", "169.254.1.1", pastaArgs}, {"slirp4netns", "10.0.2.3", slirpArgs}}
}

// inherited is the namespace as the program's standard input: both give up the right to open
// it by another process, and close what else they inherit.
const inherited = "/proc/self/fd/0"

// pastaArgs keeps the host's loopback from the namespace, and ports from being forwarded by guess.
func pastaArgs(s Space, ready string) []string {
	args := []string{
		"--quiet", "--foreground", "--stderr", "--config-net", "--no-map-gw", "--dns-forward", "169.254.1.1",
		"--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--pid", ready,
	}
	if os.Geteuid() == 0 {
		args = append(args, "--runas", "0:0")
	}
	if s.Pid != 0 {
		return append(args, strconv.Itoa(s.Pid))
	}
	return append(args, "--netns-only", "--no-netns-quit", "--netns", inherited)
}

// slirpArgs are likewise. It ends when its exit descriptor does, which is our end of a pipe.
func slirpArgs(s Space, _ string) []string {
	args := []string{"--configure", "--mtu=65520", "--disable-host-loopback", "--ready-fd=3", "--exit-fd=4"}
	if s.Pid != 0 {
		args = append(args, "--userns-path=/proc/"+strconv.Itoa(s.Pid)+"/ns/user", strconv.Itoa(s.Pid))
	} else {
		args = append(args, "--netns-type=path", inherited)
	}
	return append(args, "tap0")
}

// Attach starts the first program that works. Guard has a process killed when this one ends, until
// the function it returns is called; the context only limits the start.
func Attach(ctx context.Context, s Space, guard func(*os.Process) func()) (*Process, error) {
	if !Installed() {
		return nil, ErrNone
	}
	// Both need it. To see that here is cheaper than to start them, and says what to do.
	if err := unix.Access(tunDevice, unix.R_OK|unix.W_OK); err != nil {
		return nil, fmt.Errorf("%s: %w: users need to read and write it (mode 0666), as most systems let them", tunDevice, err)
	}
	var errs []error
	for _, p := range programs() {
		path, err := exec.LookPath(p.name)
		if err != nil {
			continue
		}
		proc, err := p.start(ctx, path, s, guard)
		if err == nil {
			return proc, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// Installed tells whether one of the programs is.
func Installed() bool {
	for _, p := range programs() {
		if _, err := exec.LookPath(p.name); err == nil {
			return true
		}
	}
	return false
}

func (p program) start(ctx context.Context, path string, s Space, guard func(*os.Process) func()) (*Process, error) {
	w, err := newWaiter()
	if err != nil {
		return nil, err
	}
	defer w.close()
	proc := &Process{DNS: netip.MustParseAddr(p.dns), Name: p.name, done: make(chan struct{})}
	proc.cmd = exec.Command(path, p.args(s, w.fifo)...)
	proc.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	proc.cmd.ExtraFiles = []*os.File{w.write, w.exitRead}
	if s.Pid == 0 {
		proc.cmd.Stdin = s.Namespace
	}
	log := &lastText{}
	proc.cmd.Stdout, proc.cmd.Stderr = log, log
	proc.cmd.WaitDelay = 500 * time.Millisecond // whoever holds its output still
	if err := startPlain(proc.cmd); err != nil {
		return nil, err
	}
	stop := guard(proc.cmd.Process)
	proc.free = func() { stop(); w.exitWrite.Close() }
	go func() { proc.cmd.Wait(); close(proc.done) }()
	if err := w.wait(ctx, proc.done); err != nil {
		proc.Close()
		if text := log.String(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, err
	}
	w.keepExit = true
	return proc, nil
}

// startPlain starts a program that ignores no SIGPIPE, whatever this process does: pasta takes it for an
// error if it does already.
func startPlain(cmd *exec.Cmd) error {
	if signal.Ignored(unix.SIGPIPE) {
		heard := make(chan os.Signal, 1)
		signal.Notify(heard, unix.SIGPIPE) // what is heard begins with the default in a child
		defer signal.Ignore(unix.SIGPIPE)
		defer signal.Stop(heard)
	}
	return cmd.Start()
}

// Close ends the program.
func (p *Process) Close() {
	p.cmd.Process.Kill()
	<-p.done
	p.free()
}

// waiter is told by a program that it is ready: by a byte in a pipe, or by writing its process
// number to a file, which is a named pipe here.
type waiter struct {
	dir, fifo          string
	named, read, write *os.File
	exitRead           *os.File // what slirp4netns has; it ends when the other end is closed
	exitWrite          *os.File
	keepExit           bool
}

func newWaiter() (w *waiter, err error) {
	w = &waiter{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "nacre-net-"); err != nil {
		return w, err
	}
	w.fifo = filepath.Join(w.dir, "ready")
	if err = unix.Mkfifo(w.fifo, 0o600); err != nil {
		return w, &os.PathError{Op: "mkfifo", Path: w.fifo, Err: err}
	}
	// Open for writing, too: it does not end before the program has opened it.
	if w.named, err = os.OpenFile(w.fifo, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
		return w, err
	}
	if w.read, w.write, err = os.Pipe(); err != nil {
		return w, err
	}
	w.exitRead, w.exitWrite, err = os.Pipe()
	return w, err
}

func (w *waiter) close() {
	for _, f := range []*os.File{w.named, w.read, w.write, w.exitRead} {
		if f != nil {
			f.Close()
		}
	}
	if w.exitWrite != nil && !w.keepExit {
		w.exitWrite.Close()
	}
	if w.dir != "" {
		os.RemoveAll(w.dir)
	}
}

// wait waits for either, the program's end, or too long.
func (w *waiter) wait(ctx context.Context, ended <-chan struct{}) error {
	ready := make(chan error, 2)
	for _, f := range []*os.File{w.named, w.read} {
		go func() {
			_, err := f.Read(make([]byte, 16))
			ready <- err
		}()
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-ready:
		if errors.Is(err, io.EOF) {
			err = errors.New("it ended too early")
		}
		return err
	case <-ended:
		return errors.New("it failed")
	case <-timer.C:
		return fmt.Errorf("it was not ready after %s", patience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lastText keeps the end of what a program complains about, on one line.
type lastText struct{ data []byte }

func (l *lastText) Write(p []byte) (int, error) {
	l.data = append(l.data, p...)
	if extra := len(l.data) - 2048; extra > 0 {
		l.data = append(l.data[:0], l.data[extra:]...)
	}
	return len(p), nil
}

func (l *lastText) String() string {
	var lines []string
	for line := range strings.Lines(string(l.data)) {
		// pasta says on its error output, too, what its log did not take.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Failed to send ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
