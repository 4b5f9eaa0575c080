package copier

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

// tree is a root in memory, made from lines such as "dir/ 755", "file 644 content",
// "link -> target", with an optional "uid:gid" and "ino=N".
type tree map[string]*layer.Stat

func parseTree(t *testing.T, text string) tree {
	t.Helper()
	tr := tree{".": {Entry: layer.Entry{Name: ".", Mode: unix.S_IFDIR | 0o755}, Ino: 1, Nlink: 1}}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		f := strings.Fields(line)
		st := &layer.Stat{Ino: uint64(i + 2), Nlink: 1}
		st.ModTime = time.Unix(1000, 0)
		st.Name = strings.TrimSuffix(f[0], "/")
		switch {
		case len(f) > 2 && f[1] == "->":
			st.Mode, st.Link = unix.S_IFLNK|0o777, f[2]
		default:
			var perm uint32
			fmt.Sscanf(f[1], "%o", &perm)
			st.Mode = unix.S_IFREG | perm
			if strings.HasSuffix(f[0], "/") {
				st.Mode = unix.S_IFDIR | perm
			}
			for _, x := range f[2:] {
				if _, err := fmt.Sscanf(x, "ino=%d", &st.Ino); err == nil {
					st.Nlink = 2
				} else if _, err := fmt.Sscanf(x, "%d:%d", &st.UID, &st.GID); err != nil {
					st.Size = int64(len(x))
					st.Link = x // content, see Open
				}
			}
		}
		tr[st.Name] = st
	}
	return tr
}

func (t tree) Lstat(name string) (fs.FileInfo, error) {
	st := t[name]
	if st == nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	c := *st
	if isFile(c.Mode) {
		c.Link = ""
	}
	return layer.NewFileInfo(&c), nil
}

func (t tree) ReadDir(name string) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	for n := range t {
		if n != "." && path.Dir(n) == name {
			info, _ := t.Lstat(n)
			out = append(out, fs.FileInfoToDirEntry(info))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out, nil
}

type content struct{ *strings.Reader }

func (content) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
func (content) Close() error               { return nil }

func (t tree) Open(name string) (fs.File, error) {
	return content{strings.NewReader(t[name].Link)}, nil
}

func (t tree) Resolve(name string) (string, error) {
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return ".", nil
	}
	if st := t[name]; st != nil && isLink(st.Mode) {
		return t.Resolve(path.Join(path.Dir(name), st.Link))
	}
	return name, nil
}

// listing is what a plan adds, one line each.
func listing(t *testing.T, p *Plan) string {
	t.Helper()
	var b strings.Builder
	for f, err := range p.Files() {
		if err != nil {
			t.Fatal(err)
		}
		kind := map[uint32]string{unix.S_IFDIR: "/", unix.S_IFLNK: "@"}[f.Mode&unix.S_IFMT]
		fmt.Fprintf(&b, "%s%s %o %d:%d", f.Name, kind, f.Mode&0o7777, f.UID, f.GID)
		switch {
		case f.Hard:
			fmt.Fprintf(&b, " = %s", f.Link)
		case f.Link != "":
			fmt.Fprintf(&b, " -> %s", f.Link)
		case f.Open != nil:
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, _ := io.ReadAll(r)
			fmt.Fprintf(&b, " %s", data)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func lines(s string) string {
	var out []string
	for _, l := range strings.Split(strings.TrimSpace(s), "\n") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

const debianRoot = `
	etc/ 755
	usr/ 755
	usr/lib/ 755
	lib -> usr/lib
	tmp/ 1777
	srv/ 750 7:8
	srv/old 600 7:8 stale
	data -> /srv
	srv/ln -> /etc/passwd
	loop -> loop
	afile 644 x`

const sources = `
	a 644 5:6 aaa
	x 755 5:6 bin
	d/ 700 5:6
	d/b 640 5:6 bbb
	d/s/ 711 5:6
	d/s/c.txt 644 5:6 ccc
	d/s/c.go 644 5:6 go
	l -> a
	ld -> d
	tmp 644 5:6 file
	ln 644 5:6 file
	h1 644 5:6 same ino=99
	h2 644 5:6 same ino=99`

func TestCopy(t *testing.T) {
	root := &Owner{}
	tests := []struct {
		name, src, dest string
		o               Options
		want, err       string
	}{
		{"file to name", "a", "/new", Options{Owner: root}, "new 644 0:0 aaa", ""},
		{"file to directory with slash", "a", "/new/", Options{Owner: root}, "new/ 755 0:0\nnew/a 644 0:0 aaa", ""},
		{"file to existing directory", "a", "/tmp", Options{Owner: root}, "tmp/ 1777 0:0\ntmp/a 644 0:0 aaa", ""},
		{"parents keep their owner", "a", "/srv/x/", Options{Owner: root}, "srv/ 750 7:8\nsrv/x/ 755 0:0\nsrv/x/a 644 0:0 aaa", ""},
		{"file over file", "a", "/srv/old", Options{Owner: root}, "srv/ 750 7:8\nsrv/old 644 0:0 aaa", ""},
		{"owner kept from a stage", "a", "/new", Options{}, "new 644 5:6 aaa", ""},
		{"chown also for made directories", "a", "/n/m/", Options{Owner: &Owner{1, 2}}, "n/ 755 1:2\nn/m/ 755 1:2\nn/m/a 644 1:2 aaa", ""},
		{"chmod octal also for made directories", "a", "/n/", Options{Owner: root, Chmod: "0700"}, "n/ 700 0:0\nn/a 700 0:0 aaa", ""},
		{"chmod symbolic", "a", "/new", Options{Owner: root, Chmod: "u+x,go-r"}, "new 700 0:0 aaa", ""},
		{"chmod setuid", "x", "/new", Options{Owner: root, Chmod: "4755"}, "new 4755 0:0 bin", ""},
		{"chmod nonsense", "a", "/new", Options{Chmod: "99999"}, "", "invalid --chmod"},
		{"directory contents to new", "d", "/new", Options{Owner: root}, "new/ 755 0:0\nnew/b 640 0:0 bbb\nnew/s/ 711 0:0\nnew/s/c.go 644 0:0 go\nnew/s/c.txt 644 0:0 ccc", ""},
		{"directory contents to existing", "d", "/srv", Options{Owner: root}, "srv/ 750 7:8\nsrv/b 640 0:0 bbb\nsrv/s/ 711 0:0\nsrv/s/c.go 644 0:0 go\nsrv/s/c.txt 644 0:0 ccc", ""},
		{"directory to root", "d/s", "/", Options{Owner: root}, "c.go 644 0:0 go\nc.txt 644 0:0 ccc", ""},
		{"destination through symlinked directory", "a", "/lib/x", Options{Owner: root}, "usr/ 755 0:0\nusr/lib/ 755 0:0\nusr/lib/x 644 0:0 aaa", ""},
		{"destination is absolute symlink", "a", "/data/", Options{Owner: root}, "srv/ 750 7:8\nsrv/a 644 0:0 aaa", ""},
		{"symlink of the same name in the destination is replaced", "ln", "/srv", Options{Owner: root}, "srv/ 750 7:8\nsrv/ln 644 0:0 file", ""},
		{"destination is a symlink to a file", "a", "/srv/ln", Options{Owner: root}, "etc/ 755 0:0\netc/passwd 644 0:0 aaa", ""},
		{"destination loops", "a", "/loop/x", Options{}, "", "too many levels of symbolic links"},
		{"destination under a file", "a", "/afile/x", Options{}, "", "not a directory"},
		{"directory over file", "d", "/afile", Options{}, "", "cannot copy a directory to /afile"},
		{"file over directory of the same name", "tmp", "/", Options{Owner: root}, "", "cannot replace directory /tmp with a file"},
		{"source symlink is followed", "l", "/new", Options{Owner: root}, "new 644 0:0 aaa", ""},
		{"source symlink keeps its name", "l", "/tmp/", Options{Owner: root}, "tmp/ 1777 0:0\ntmp/l 644 0:0 aaa", ""},
		{"source symlink to directory", "ld", "/new/", Options{Owner: root, Exclude: []string{"s"}}, "new/ 755 0:0\nnew/b 640 0:0 bbb", ""},
		{"exclude", "d", "/new", Options{Owner: root, Exclude: []string{"**/*.go"}}, "new/ 755 0:0\nnew/b 640 0:0 bbb\nnew/s/ 711 0:0\nnew/s/c.txt 644 0:0 ccc", ""},
		{"exclude with exception", "d", "/new", Options{Owner: root, Exclude: []string{"s", "!s/c.go"}}, "new/ 755 0:0\nnew/b 640 0:0 bbb\nnew/s/ 711 0:0\nnew/s/c.go 644 0:0 go", ""},
		{"parents", ".", "/new/", Options{Owner: root, Include: []string{"d/s/*.go"}}, "new/ 755 0:0\nnew/d/ 700 0:0\nnew/d/s/ 711 0:0\nnew/d/s/c.go 644 0:0 go", ""},
		{"absent", "nope", "/", Options{}, "", `/nope: not found`},
		{"hard links stay", ".", "/new/", Options{Owner: root, Include: []string{"h*"}}, "new/ 755 0:0\nnew/h1 644 0:0 same\nnew/h2 644 0:0 = new/h1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := New(parseTree(t, debianRoot))
			err := p.Copy(parseTree(t, sources), tt.src, tt.dest, tt.o)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(listing(t, p)); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			if again := lines(listing(t, p)); again != tt.want {
				t.Errorf("a second reading gives\n%s", again)
			}
		})
	}
}

func TestCopyOnEmptyRoot(t *testing.T) {
	p := New(nil)
	if err := p.Copy(parseTree(t, sources), "d", "/", Options{Owner: &Owner{}}); err != nil {
		t.Fatal(err)
	}
	want := "b 640 0:0 bbb\ns/ 711 0:0\ns/c.go 644 0:0 go\ns/c.txt 644 0:0 ccc"
	if got := lines(listing(t, p)); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestCopyDirectoryOverSymlink(t *testing.T) {
	p := New(parseTree(t, debianRoot))
	src := parseTree(t, "lib/ 755\nlib/x 644 x")
	err := p.Copy(src, ".", "/", Options{})
	if err == nil || !strings.Contains(err.Error(), "/lib, which is not one") {
		t.Errorf("error %v", err)
	}
}

func TestExtract(t *testing.T) {
	p := New(parseTree(t, debianRoot))
	src := parseTree(t, `
		lib/ 700 3:4
		lib/x 644 3:4 x
		srv/ 711 3:4
		afile/ 755
		afile/y 644 y
		usr/ 755
		usr/lib/ 755
		usr/lib/deep 644 z`)
	src["usr"].Implicit, src["usr/lib"].Implicit = true, true
	if err := p.Extract(src, "/", Options{}); err != nil {
		t.Fatal(err)
	}
	want := lines(`afile/ 755 0:0
		afile/y 644 0:0 y
		lib/ 700 3:4
		lib/x 644 3:4 x
		srv/ 711 3:4
		usr/ 755 0:0
		usr/lib/ 755 0:0
		usr/lib/deep 644 0:0 z`)
	if got := lines(listing(t, p)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// The symlink lib was replaced: what it led to does not show below the new directory.
	if _, ok, _ := p.lookup("lib/deep"); ok {
		t.Error("lib still leads to usr/lib")
	}
}

func TestMkdir(t *testing.T) {
	p := New(parseTree(t, debianRoot))
	for _, dir := range []string{"/tmp", "/lib/app/x", "/data/y"} {
		if err := p.Mkdir(dir, Owner{9, 9}, time.Unix(5, 0)); err != nil {
			t.Fatal(err)
		}
	}
	want := lines(`srv/ 750 7:8
		srv/y/ 755 9:9
		usr/ 755 0:0
		usr/lib/ 755 0:0
		usr/lib/app/ 755 9:9
		usr/lib/app/x/ 755 9:9`)
	if got := lines(listing(t, p)); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestSum(t *testing.T) {
	sum := func(change func(lower, src tree)) string {
		lower, src := parseTree(t, debianRoot), parseTree(t, sources)
		change(lower, src)
		p := New(lower)
		if err := p.Copy(src, "d", "/srv", Options{}); err != nil {
			t.Fatal(err)
		}
		d, err := p.Sum(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	base := sum(func(lower, src tree) {})
	same := map[string]func(lower, src tree){
		"times":                    func(lower, src tree) { src["d/b"].ModTime = time.Unix(7, 0); lower["srv"].ModTime = time.Unix(8, 0) },
		"unrelated file of source": func(lower, src tree) { src["a"].Link = "zzz" },
		"unrelated file of root":   func(lower, src tree) { delete(lower, "etc") },
	}
	for name, change := range same {
		if sum(change) != base {
			t.Errorf("%s changed the sum", name)
		}
	}
	differ := map[string]func(lower, src tree){
		"content":      func(lower, src tree) { src["d/b"].Link = "BBB" },
		"mode":         func(lower, src tree) { src["d/b"].Mode |= 0o111 },
		"owner":        func(lower, src tree) { src["d/b"].UID = 77 },
		"parent mode":  func(lower, src tree) { lower["srv"].Mode = unix.S_IFDIR | 0o777 },
		"new file":     func(lower, src tree) { src["d/n"] = &layer.Stat{Entry: layer.Entry{Name: "d/n", Mode: unix.S_IFREG}} },
		"capability":   func(lower, src tree) { src["d/b"].Xattrs = map[string]string{capability: "b"} },
		"removed file": func(lower, src tree) { delete(src, "d/b") },
	}
	for name, change := range differ {
		if sum(change) == base {
			t.Errorf("%s did not change the sum", name)
		}
	}
}

func TestFilesAreInOrder(t *testing.T) {
	p := New(nil)
	src := parseTree(t, "a/ 755\na/b 644 x\na.b 644 x\na-b 644 x\nab 644 x")
	if err := p.Copy(src, ".", "/", Options{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for f := range p.Files() {
		names = append(names, f.Name)
	}
	if !slices.IsSortedFunc(names, func(a, b string) int {
		if layer.Less(a, b) {
			return -1
		}
		return 1
	}) {
		t.Errorf("out of order: %q", names)
	}
}
