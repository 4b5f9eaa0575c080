package container

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWritten counts as docker does: the size of files, once each, and no directories.
func TestWritten(t *testing.T) {
	c := &Container{dir: t.TempDir()}
	if n := c.Written(); n != 0 {
		t.Errorf("%d bytes before anything was written", n)
	}
	sub := filepath.Join(c.Upper(), "a/b")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"one": 1000, "b/two": 20, "b/none": 0} {
		if err := os.WriteFile(filepath.Join(c.Upper(), "a", name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(c.Upper(), "a/one"), filepath.Join(sub, "again")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("12345", filepath.Join(sub, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(sub, "none"), 1<<20); err != nil { // a hole
		t.Fatal(err)
	}
	if n := c.Written(); n != 1000+20+5+1<<20 {
		t.Errorf("%d bytes", n)
	}
}
