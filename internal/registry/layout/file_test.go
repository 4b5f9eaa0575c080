package layout

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestNamedTemp: filesystems without O_TMPFILE get by with a name, which goes away.
func TestNamedTemp(t *testing.T) {
	for _, keep := range []bool{true, false} {
		dir := t.TempDir()
		f, err := os.CreateTemp(dir, tempPrefix+"*")
		if err != nil {
			t.Fatal(err)
		}
		x := &temp{File: f, dir: dir, named: true}
		if _, err := x.WriteString("content"); err != nil {
			t.Fatal(err)
		}
		want := 0
		if keep {
			want = 1
			if err := x.keep(filepath.Join(dir, "blob")); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.discard(); err != nil {
			t.Error(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != want {
			t.Errorf("keep=%t: %v, %v", keep, entries, err)
		}
	}
}

// TestSweep: only what is old is taken for left over.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(dir); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{tempPrefix + "old": 2 * tempAge, tempPrefix + "new": 0, "other": 2 * tempAge} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Create(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{tempPrefix + "old": false, tempPrefix + "new": true, "other": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %t", name, err, want)
		}
	}
}
