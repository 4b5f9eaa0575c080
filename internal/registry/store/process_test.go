package store_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/registry/store"
)

// process is a worker at work, and what it said so far.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{}

	mu    sync.Mutex
	lines []string
}

func start(t *testing.T, mode, root string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command("/proc/self/exe"), done: make(chan struct{})}
	p.cmd.Args = append([]string{"worker", root}, args...)
	p.cmd.Env = append(os.Environ(), "STORE_TEST_WORKER="+mode)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if err == nil { // half a line was not said
				p.mu.Lock()
				p.lines = append(p.lines, strings.TrimSpace(line))
				p.mu.Unlock()
			}
			if err == io.EOF || err != nil {
				return
			}
		}
	}()
	return p
}

func (p *process) wait() error {
	<-p.done
	return p.cmd.Wait()
}

// wantKept fails the test unless every image a worker was told is kept is there, whole.
func wantKept(t *testing.T, s *store.Store, lines []string) {
	t.Helper()
	for _, line := range lines {
		name, digest, _ := strings.Cut(line, " ")
		img, err := s.Lookup(t.Context(), name)
		if err != nil || img.Target.Digest.String() != digest {
			t.Errorf("%s: %s, %v; want %s", name, img.Target.Digest, err, digest)
			continue
		}
		if err := usable(t.Context(), s, img); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManyProcesses(t *testing.T) {
	root := t.TempDir()
	var workers []*process
	for i := range 6 { // all of them make the store
		workers = append(workers, start(t, "busy", root, fmt.Sprint(i), "2500"))
	}
	var kept []string
	for i, p := range workers {
		if err := p.wait(); err != nil {
			t.Errorf("worker %d: %v: %s", i, err, p.stderr.String())
		}
		kept = append(kept, p.lines...)
	}
	if len(kept) < 10 {
		t.Errorf("only %d images were built", len(kept))
	}
	s := openAt(t, root, store.Options{})
	if r := wantSound(t, s); r.Leftovers != 0 {
		t.Errorf("%d leftovers of workers that ended", r.Leftovers)
	}
	wantKept(t, s, kept)
	t.Logf("%d images built", len(kept))
}

// TestKill kills workers at random moments, while others go on.
func TestKill(t *testing.T) {
	root := t.TempDir()
	var kept []string
	const rounds = 12
	var others []*process
	for i := range 2 {
		others = append(others, start(t, "busy", root, fmt.Sprint(1000+i), "6000"))
	}
	for i := range rounds {
		p := start(t, "busy", root, fmt.Sprint(i), "60000")
		time.Sleep(time.Duration(100+rand.IntN(300)) * time.Millisecond)
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.wait()
		if p.stderr.Len() > 0 {
			t.Errorf("worker %d failed before it was killed: %s", i, p.stderr.String())
		}
		kept = append(kept, p.lines...)
		s := openAt(t, root, store.Options{})
		wantSound(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, p := range others {
		if err := p.wait(); err != nil {
			t.Errorf("worker: %v: %s", err, p.stderr.String())
		}
		kept = append(kept, p.lines...)
	}
	s := openAt(t, root, store.Options{})
	wantSound(t, s)
	wantKept(t, s, kept)
	check(t, s, true)
	if r := wantSound(t, s); r.Leftovers != 0 {
		t.Errorf("%d leftovers after a repair", r.Leftovers)
	}
	for _, dir := range []string{"tmp", "owners", "locks"} {
		entries, err := os.ReadDir(root + "/" + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), fmt.Sprint(os.Getpid())) { // our own mark
				t.Errorf("%s/%s is left", dir, e.Name())
			}
		}
	}
	t.Logf("%d images kept", len(kept))
}
