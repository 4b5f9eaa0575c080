package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"nacre/internal/sandbox"
)

// ErrDetached: the user typed the keys that end an attachment.
var ErrDetached = errors.New("read escape sequence")

// send writes a frame: several goroutines may.
func (a *Attachment) send(kind byte, data []byte) error {
	a.wmu.Lock()
	defer a.wmu.Unlock()
	return writeFrame(a.conn, kind, data)
}

// Resize tells the container the size of the terminal.
func (a *Attachment) Resize(size sandbox.Size) {
	if data, err := json.Marshal(size); err == nil {
		a.send(frameSize, data)
	}
}

// Detach says that the end of the connection is meant, and not that we were killed.
func (a *Attachment) Detach() {
	if data, err := json.Marshal(request{Op: opDetach}); err == nil {
		a.send(frameRequest, data)
	}
}

// Signal sends a signal to the container's first process, or to that of Exec. The first gets it by a connection
// of its own: this one may be full of input that nobody reads.
func (a *Attachment) Signal(sig syscall.Signal) {
	if !a.exec {
		a.c.Signal(context.Background(), sig)
		return
	}
	if data, err := json.Marshal(request{Op: opSignal, Signal: int(sig)}); err == nil {
		a.send(frameRequest, data)
	}
}

// Copy connects streams to the container, nil ones not, until it ends, standard output cannot be written, or the keys of
// detach were read. Nobody waits for a Read of stdin that is under way then.
//
// Errors: ErrDetached; what an output says; errNoMonitor's text where the monitor was killed.
func (a *Attachment) Copy(stdin io.Reader, detach []byte, stdout, stderr io.Writer) (Exit, error) {
	keys := make(chan struct{})
	if stdin != nil {
		go func() {
			if err := a.feed(stdin, detach); errors.Is(err, ErrDetached) {
				close(keys)
				a.Detach()
				a.conn.Close()
			}
		}()
	}
	exit, err := a.drain(stdout, stderr)
	select {
	case <-keys:
		return Exit{}, ErrDetached
	default:
		return exit, err
	}
}

// feed sends input until its end.
func (a *Attachment) feed(stdin io.Reader, detach []byte) error {
	buf := make([]byte, 32<<10)
	k := keyFilter{keys: detach}
	for {
		n, err := stdin.Read(buf)
		if n > 0 {
			data, found := k.pass(buf[:n])
			if len(data) > 0 {
				if err := a.send(frameInput, data); err != nil {
					return err
				}
			}
			if found {
				return ErrDetached
			}
		}
		if err != nil {
			return a.send(frameEnd, nil)
		}
	}
}

// drain writes output until the final reply.
func (a *Attachment) drain(stdout, stderr io.Writer) (Exit, error) {
	buf := make([]byte, 64<<10)
	for {
		kind, data, err := readFrame(a.conn, buf)
		if err != nil {
			return a.lost()
		}
		w := io.Writer(nil)
		switch kind {
		case frameOutput:
			w = stdout
		case frameError:
			w = stderr
		case frameReply:
			var r reply
			if err := json.Unmarshal(data, &r); err != nil {
				return Exit{}, err
			}
			if r.Error != "" && !r.Exited {
				return Exit{Code: r.Code}, &StartError{r.Code, r.Error}
			}
			if r.Exited {
				return Exit{Code: r.Code, OOMKilled: r.OOM, Warnings: r.Warnings}, nil
			}
		}
		if w != nil {
			if _, err := w.Write(data); err != nil {
				return Exit{}, fmt.Errorf("write output: %w", err)
			}
		}
	}
}

// lost is what is known of a container whose monitor was killed.
func (a *Attachment) lost() (Exit, error) {
	if err := a.c.Reload(); err != nil || a.c.State.Status.Alive() {
		return Exit{Code: 125}, errNoMonitor
	}
	e := Exit{Code: a.c.State.ExitCode, OOMKilled: a.c.State.OOMKilled}
	if a.c.State.Error != "" {
		return e, fmt.Errorf("container %s ended: %s", a.c.Name, a.c.State.Error)
	}
	return e, nil
}

// keyFilter looks for keys in what is typed. The beginning of them is held back until it is clear whether
// they are meant.
type keyFilter struct {
	keys []byte
	n    int // of them seen
}

// pass returns what of p is to be passed on, and whether the keys were seen.
func (k *keyFilter) pass(p []byte) (out []byte, found bool) {
	if len(k.keys) == 0 {
		return p, false
	}
	for _, c := range p {
		if c == k.keys[k.n] {
			if k.n++; k.n == len(k.keys) {
				return out, true
			}
			continue
		}
		out = append(out, k.keys[:k.n]...)
		k.n = 0
		if c == k.keys[0] {
			k.n = 1
			if len(k.keys) == 1 {
				return out, true
			}
			continue
		}
		out = append(out, c)
	}
	return out, false
}

// DefaultDetachKeys are docker's.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseDetachKeys reads a list of keys: letters, or ctrl- with a letter or one of @ [ \ ] ^ _. Empty is none.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var out []byte
	for _, key := range splitKeys(s) {
		switch {
		case len(key) == 1:
			out = append(out, key[0])
		case len(key) == 6 && key[:5] == "ctrl-" && (key[5] >= 'a' && key[5] <= 'z' || (key[5] == '@' || key[5] >= '[' && key[5] <= '_')):
			out = append(out, key[5]&0x1f)
		default:
			return nil, fmt.Errorf("Unknown character: '%s'", key) //lint:ignore ST1005 docker's words
		}
	}
	return out, nil
}

// splitKeys splits at commas, of which one may be a key itself.
func splitKeys(s string) (keys []string) {
	for len(s) > 0 {
		i := 1
		for i < len(s) && s[i] != ',' {
			i++
		}
		keys = append(keys, s[:i])
		s = s[min(i+1, len(s)):]
	}
	return keys
}
