package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// daemon is a process in the background that a peer's client talks to.
type daemon struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{} // closed when it has ended
}

// startDaemon runs argv with its output in the file log and waits until ready.
func startDaemon(log string, ready func() bool, argv ...string) (*daemon, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &daemon{cmd: exec.Command(argv[0], argv[1:]...), log: log, exited: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = f, f
	// It ends with this process, however that ends.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = d.cmd.Wait(); close(d.exited) }()
	for range 600 {
		if ready() {
			return d, nil
		}
		select {
		case <-d.exited:
			return nil, d.failure(fmt.Sprintf("ended: %v", d.cmd.ProcessState))
		case <-time.After(50 * time.Millisecond):
		}
	}
	err = d.failure("does not answer")
	d.stop()
	return nil, err
}

func (d *daemon) failure(how string) error {
	text, _ := os.ReadFile(d.log)
	return fmt.Errorf("%s %s\n%s", d.cmd.Args[0], how, tail(text, 2000))
}

// pid is 0 for no daemon.
func (d *daemon) pid() int {
	if d == nil {
		return 0
	}
	return d.cmd.Process.Pid
}

func (d *daemon) stop() {
	if d == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(30 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.exited
	}
}
