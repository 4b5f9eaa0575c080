package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// shell is a real one at a terminal, with nacre's completions loaded.
type shell struct {
	t   *testing.T
	tty *os.File
	out chan []byte
	buf bytes.Buffer
}

// interactive starts a shell whose prompt is "> ".
func interactive(t *testing.T, s *store, argv []string, setup ...string) *shell {
	t.Helper()
	bin := t.TempDir()
	if err := os.Symlink(nacre, filepath.Join(bin, "nacre")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + t.TempDir(), "TERM=xterm", "NACRE_ROOT=" + s.root, "LC_ALL=C.UTF-8"}
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	sh := &shell{t: t, tty: tty, out: make(chan []byte, 100)}
	go func() {
		defer close(sh.out)
		for {
			b := make([]byte, 4096)
			n, err := tty.Read(b)
			if err != nil {
				return
			}
			sh.out <- b[:n]
		}
	}()
	t.Cleanup(func() { cmd.Process.Kill(); tty.Close(); cmd.Wait() })
	for i, line := range setup {
		sh.keys(line + "; echo ready-" + string(rune('a'+i)) + "''!\n")
		sh.sees("ready-" + string(rune('a'+i)) + "!")
	}
	return sh
}

func (sh *shell) keys(text string) {
	sh.t.Helper()
	sh.buf.Reset()
	if _, err := io.WriteString(sh.tty, text); err != nil {
		sh.t.Fatal(err)
	}
}

// sees waits until the terminal shows text, after the last keys.
func (sh *shell) sees(text string) {
	sh.t.Helper()
	end := time.After(patience)
	for !strings.Contains(sh.buf.String(), text) {
		select {
		case b, ok := <-sh.out:
			if !ok {
				sh.t.Fatalf("the shell ended: %q", sh.buf.String())
			}
			sh.buf.Write(b)
		case <-end:
			sh.t.Fatalf("%q is not shown: %q", text, sh.buf.String())
		}
	}
}

// TestCompletion: what a Tab key gives in a shell at a terminal.
func TestCompletion(t *testing.T) {
	s := newBusybox(t)
	s.ok(t, "tag", "busybox", "team/alpha:1")
	s.ok(t, "tag", "busybox", "team/beta:1")
	s.ok(t, "create", "--name", "sleeper", "busybox")
	s.ok(t, "volume", "create", "data")
	for _, c := range []struct {
		shell string
		argv  []string
		setup []string
	}{
		{"bash", []string{"bash", "--norc", "--noprofile", "-i"}, []string{"PS1='> '", ". /usr/share/bash-completion/bash_completion", ". <(nacre completion bash)"}},
		{"zsh", []string{"zsh", "-f", "-i"}, []string{"PS1='> '", "autoload -U compinit && compinit -u", "source <(nacre completion zsh)"}},
		{"fish", []string{"fish", "--no-config", "-i"}, []string{"function fish_prompt; echo '> '; end", "nacre completion fish | source"}},
	} {
		t.Run(c.shell, func(t *testing.T) {
			sh := interactive(t, s, c.argv, c.setup...)
			for _, try := range []struct{ typed, whole string }{
				{"nacre rmi busy", "nacre rmi busybox:latest"},
				{"nacre rm sl", "nacre rm sleeper"},
				{"nacre volume ins", "nacre volume inspect"},
				{"nacre volume inspect da", "nacre volume inspect data"},
				{"nacre build --progress raw", "nacre build --progress rawjson"},
			} {
				sh.keys("\x15" + try.typed) // ^U: a new line
				sh.sees(try.typed)
				sh.keys("\t")
				sh.sees(strings.TrimPrefix(try.whole, try.typed))
			}
			// Of several there is a list, in bash when it is asked for twice.
			sh.keys("\x15nacre history team/")
			sh.sees("history team/")
			sh.keys("\t\t")
			sh.sees("alpha:1")
			sh.sees("beta:1")
			sh.keys("\x15")
		})
	}
}
