package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nacre/internal/rootfs"
)

// newTree is a root of two directories, with a symlink that would lead out of it.
func newTree(t *testing.T, writable bool) (rootfs.Mount, string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"a/sub", "b", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"a/sub/file": "of a\n", "b/other": "of b\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/../../sub", filepath.Join(dir, "b/link")); err != nil {
		t.Fatal(err)
	}
	m := rootfs.Mount{Lower: []rootfs.Lower{{Dir: filepath.Join(dir, "a")}, {Dir: filepath.Join(dir, "b")}}}
	if writable {
		m.Upper, m.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	}
	return m, dir
}

func TestTrees(t *testing.T) {
	for _, tt := range []struct {
		name, path, script, want string
		writable                 bool
		options                  []string
	}{
		{"whole", ".", "cat /mnt/sub/file /mnt/other", "of a\nof b\n", false, nil},
		{"part", "sub", "ls /mnt; cat /mnt/file", "file\nof a\n", false, nil},
		{"file", "sub/file", "cat /mnt", "of a\n", false, nil},
		{"through a link", "link", "cat /mnt/file", "of a\n", false, nil},
		{"read-only without an upper side", ".", "(echo x > /mnt/other) 2>&1 | grep -o Read-only", "Read-only\n", false, nil},
		{"read-only where said", ".", "(echo x > /mnt/other) 2>&1 | grep -o Read-only", "Read-only\n", true, []string{"ro"}},
		{"writable", ".", "echo x > /mnt/other; rm /mnt/sub/file; cat /mnt/other; ls /mnt/sub", "x\n", true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree, dir := newTree(t, tt.writable)
			r := start(t, func(c *Config) {
				c.MountTree("/mnt", Tree{Root: tree, Path: tt.path}, tt.options...)
			}, "sh", "-c", tt.script)
			if out := r.ok(t); out != tt.want {
				t.Errorf("got %q, want %q", out, tt.want)
			}
			if len(r.Created) > 0 {
				t.Errorf("made in the root: %q", r.Created)
			}
			if data, err := os.ReadFile(filepath.Join(dir, "b/other")); string(data) != "of b\n" {
				t.Errorf("the tree itself changed: %q, %v", data, err)
			}
		})
	}
}

func TestTreeOnTree(t *testing.T) {
	one, _ := newTree(t, false)
	two, _ := newTree(t, false)
	r := start(t, func(c *Config) {
		c.MountTree("/one", Tree{Root: one, Path: "."})
		c.MountTree("/one/sub", Tree{Root: two, Path: "/"})
	}, "sh", "-c", "ls /one /one/sub")
	if out := r.ok(t); !strings.Contains(out, "other") || !strings.HasSuffix(out, "sub\n") {
		t.Errorf("got %q", out)
	}
}

func TestTreeAbsent(t *testing.T) {
	tree, _ := newTree(t, false)
	r := start(t, func(c *Config) { c.MountTree("/mnt", Tree{Root: tree, Path: "nope"}) }, "true")
	if r.err == nil || !strings.Contains(r.err.Error(), "/nope") {
		t.Errorf("error %v", r.err)
	}
}
