package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// screen is what a terminal shows.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Contains(s.buf.Bytes(), []byte(text))
}

// promptTerminal gives an app a terminal: what is typed into it, and what it shows.
func promptTerminal(t *testing.T) (a *app, keys io.Writer, shown *screen, echoes func() bool) {
	t.Helper()
	control, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close(); control.Close() })
	shown = &screen{}
	go io.Copy(shown, control)
	return &app{stdin: tty, stderr: tty}, control, shown, func() bool {
		m, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return m.Lflag&unix.ECHO != 0
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%s: not after 20 s", what)
		}
	}
}

// TestPromptHidesPassword: what is typed as password is not shown, and what comes after it is again.
func TestPromptHidesPassword(t *testing.T) {
	a, keys, shown, echoes := promptTerminal(t)
	done := make(chan error, 1)
	go func() {
		who, err := a.prompt(t.Context(), loginFlags{})
		if who.Username != "ann" || who.Password != "s3cret" {
			t.Errorf("asked for who we are, got %q with a password of %d bytes", who.Username, len(who.Password))
		}
		done <- err
	}()
	waitFor(t, "the first question", func() bool { return shown.has("Username: ") })
	io.WriteString(keys, "ann\n")
	waitFor(t, "a hidden answer", func() bool { return shown.has("Password: ") && !echoes() })
	io.WriteString(keys, "s3cret\n")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !shown.has("ann") || shown.has("s3cret") || !echoes() {
		t.Errorf("shown: %q, echo %v", shown.buf.String(), echoes())
	}
}

// TestPromptInterrupted: who gives up at the password gets back the terminal as it was.
func TestPromptInterrupted(t *testing.T) {
	a, _, _, echoes := promptTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := a.prompt(ctx, loginFlags{user: "ann"})
		done <- err
	}()
	waitFor(t, "a hidden answer", func() bool { return !echoes() })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !echoes() {
		t.Errorf("interrupted: %v, echo %v", err, echoes())
	}
}
