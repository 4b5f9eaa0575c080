package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// TestDebugShell: --debug-shell on a terminal. The display ends, the shell has the terminal, with its
// size and its interrupts, and gives it back as it was.
func TestDebugShell(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	dir := t.TempDir()
	text := "FROM busybox\nSHELL [\"/bin/ash\", \"-e\", \"-c\"]\nRUN echo made > /made; exit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := s.cmd("build", "--debug-shell", "--network", "none", dir)
	cmd.Env = append(cmd.Environ(), "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 132})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	var out lockedBuffer
	read := make(chan struct{})
	go func() { io.Copy(&out, tty); close(read) }()
	wait := func(text string) {
		t.Helper()
		if !within(patience, func() bool { return strings.Contains(out.String(), text) }) {
			t.Fatalf("%q is not shown: %q", text, out.String())
		}
	}
	wait("leave it with exit")
	io.WriteString(tty, "stty size; cat /made; echo $TERM; echo re''ady\n")
	wait("ready")
	for _, want := range []string{"40 132", "made", "xterm-256color"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not shown", want)
		}
	}
	shown := out.String()
	sleep := fmt.Sprintf("4%d", os.Getpid()) // seconds, like no one else's
	io.WriteString(tty, "sleep "+sleep+"; echo never''theless\n")
	until(t, "it to sleep", func() bool { return len(processes("sleep\x00"+sleep)) > 0 })
	if more := strings.TrimPrefix(out.String(), shown); strings.Contains(more, "Building") || strings.Contains(more, "#4") {
		t.Errorf("the display goes on: %q", more)
	}
	tty.Write([]byte{3}) // ^C goes to sleep, not to nacre
	io.WriteString(tty, "echo still''here; exit 9\n")
	wait("stillhere")
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ends with %v: %q", err, out.String())
	}
	after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil || after.Lflag != before.Lflag || after.Iflag != before.Iflag || after.Oflag != before.Oflag {
		t.Errorf("the terminal is not as it was: %v, %+v, %+v", err, before, after)
	}
	tty.Close()
	<-read
	if !regexp.MustCompile(`(?s)stillhere.*error: Dockerfile:3: process .* exit code: 3`).MatchString(out.String()) {
		t.Errorf("the build does not end with the error: %q", out.String())
	}
}
