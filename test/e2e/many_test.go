package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestManyProcesses: builds, lists, saves, removals and prunes at once on one store.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	dirs := make([]string, 6)
	for i := range dirs {
		dirs[i] = writeFiles(t, map[string]string{"own": fmt.Sprint(i), "Dockerfile": `FROM busybox
RUN sleep 0.2; echo same for all > /same
COPY own /own
RUN cat /same /own > /both
CMD ["cat", "/both"]
`})
	}
	var wg sync.WaitGroup
	for i, dir := range dirs {
		wg.Go(func() {
			for range 3 {
				tag := fmt.Sprintf("many:%d", i)
				if r := s.run(t, "build", "-q", "-t", tag, dir); r.code != 0 {
					t.Error(r)
					return
				}
				if r := s.run(t, "run", "--rm", "--network", "none", tag); r.stdout != fmt.Sprintf("same for all\n%d", i) {
					t.Error(r)
				}
				if r := s.run(t, "save", "-o", filepath.Join(dir, "..", fmt.Sprintf("%d.tar", i)), tag); r.code != 0 {
					t.Error(r)
				}
				if r := s.run(t, "rmi", tag); r.code != 0 {
					t.Error(r)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			for _, args := range [][]string{{"images"}, {"system", "df"}, {"system", "prune", "-f"}, {"system", "check"}} {
				if r := s.run(t, args...); r.code != 0 {
					t.Error(r)
				}
			}
		}
	})
	wg.Wait()
	s.check(t)
}

// TestRepair: damage on disk is found, told, and taken out.
func TestRepair(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	sample(t, s, "sample:1")
	keep := s.inspect(t, "busybox", "{{.Id}}")
	s.check(t)
	tars, _ := filepath.Glob(s.root + "/layers/*/layer.tar")
	if len(tars) != 3 {
		t.Fatalf("%d layers", len(tars))
	}
	smallest := tars[0]
	for _, f := range tars {
		if size(t, f) < size(t, smallest) {
			smallest = f
		}
	}
	data, err := os.ReadFile(smallest)
	if err != nil {
		t.Fatal(err)
	}
	data[600] ^= 1
	if err := os.WriteFile(smallest, data, 0o644); err != nil {
		t.Fatal(err)
	}
	id := filepath.Base(filepath.Dir(smallest))
	r := s.run(t, "system", "check")
	if r.code == 0 || !strings.Contains(r.stdout+r.stderr, id[:12]) {
		t.Errorf("the damage is not found: %v", r)
	}
	if r := s.run(t, "system", "check", "--repair"); r.code != 0 && s.run(t, "system", "check").code != 0 {
		t.Errorf("it is not repaired: %v", r)
	}
	s.check(t)
	if got := s.inspect(t, "busybox", "{{.Id}}"); got != keep {
		t.Errorf("what was right is gone: %s", got)
	}
	sample(t, s, "sample:1")
	s.ok(t, "run", "--rm", "--network", "none", "sample:1")

	// An index is made again from its tar.
	indexes, _ := filepath.Glob(s.root + "/layers/*/layer.erofs")
	for _, f := range indexes {
		os.Remove(f)
	}
	s.ok(t, "system", "check", "--repair")
	s.check(t)
	if got := s.ok(t, "run", "--rm", "--network", "none", "sample:1"); got != "hello" {
		t.Errorf("it says %q", got)
	}
}

func size(t testing.TB, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
