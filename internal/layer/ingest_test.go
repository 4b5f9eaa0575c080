package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

func ingest(t testing.TB, b []byte) (*Layer, Info) {
	t.Helper()
	dir := workDir(t)
	info, err := Ingest(t.Context(), dir, bytes.NewReader(b), IngestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, dir, tarFile); !bytes.Equal(got, b) {
		t.Errorf("%d bytes went in, %d others are kept", len(b), len(got))
	}
	if want := digest.FromBytes(b); info.DiffID != want {
		t.Errorf("diffID %s, want %s", info.DiffID, want)
	}
	return open(t, dir), info
}

// A layer we wrote comes in as the same layer.
func TestIngestOwn(t *testing.T) {
	dir, want := write(t, nasty()...)
	l, info := ingest(t, readFile(t, dir, tarFile))
	if info != want {
		t.Errorf("got %+v, want %+v", info, want)
	}
	if !bytes.Equal(readFile(t, dir, indexFile), readFile(t, l.dir, indexFile)) {
		t.Error("another index")
	}
}

func TestIngestRefuses(t *testing.T) {
	long := strings.Repeat("n", 300)
	for what, c := range map[string]struct {
		items []tarItem
		want  error
		say   string
	}{
		"climbs out":               {[]tarItem{textItem("../etc/passwd", "x")}, ErrUnsafe, `leaves the root by ".."`},
		"climbs out from below":    {[]tarItem{textItem("a/../../b", "x")}, ErrUnsafe, `leaves the root`},
		"climbs out by / and ..":   {[]tarItem{textItem("/../b", "x")}, ErrUnsafe, `leaves the root`},
		"through symlink":          {[]tarItem{item('2', "a", "/etc"), textItem("a/passwd", "x")}, ErrUnsafe, `entry "a/passwd": goes through symlink "a"`},
		"through inner symlink":    {[]tarItem{item('2', "d/a", "/etc"), textItem("d/a/x/passwd", "x")}, ErrUnsafe, `goes through symlink "d/a"`},
		"directory by symlink":     {[]tarItem{item('2', "a", "/etc"), item('5', "a/b/", "")}, ErrUnsafe, `goes through symlink "a"`},
		"whiteout by symlink":      {[]tarItem{item('2', "a", "/etc"), textItem("a/.wh.passwd", "")}, ErrUnsafe, `goes through symlink "a"`},
		"opaque by symlink":        {[]tarItem{item('2', "a", "/etc"), textItem("a/.wh..wh..opq", "")}, ErrUnsafe, `goes through symlink "a"`},
		"link through symlink":     {[]tarItem{item('2', "a", "/etc"), item('1', "b", "a/passwd")}, ErrUnsafe, "goes through a symlink"},
		"link climbs out":          {[]tarItem{item('1', "b", "../../etc/passwd")}, ErrUnsafe, "leaves the root"},
		"link to lower layer":      {[]tarItem{item('1', "b", "etc/passwd")}, ErrFormat, `entry "b": hard link to "etc/passwd", which is not in the layer`},
		"link to directory":        {[]tarItem{item('5', "d/", ""), item('1', "b", "d")}, ErrFormat, "hard link to directory"},
		"link to root":             {[]tarItem{item('1', "b", "/")}, ErrFormat, "hard link"},
		"link to whiteout":         {[]tarItem{textItem(".wh.a", ""), item('1', "b", "a")}, ErrFormat, "not in the layer"},
		"link to later":            {[]tarItem{item('1', "b", "c"), textItem("c", "")}, ErrFormat, "not in the layer"},
		"below a file":             {[]tarItem{textItem("a", "x"), textItem("a/b", "x")}, ErrFormat, `"a" is not a directory`},
		"whiteout of nothing":      {[]tarItem{textItem("a/.wh.", "")}, ErrFormat, "whiteout of"},
		"whiteout of dot":          {[]tarItem{textItem("a/.wh..", "")}, ErrFormat, "whiteout of"},
		"whiteout of dots":         {[]tarItem{textItem("a/.wh...", "")}, ErrFormat, "whiteout of"},
		"whiteout of whiteout":     {[]tarItem{textItem("a/.wh..wh.b", "")}, ErrFormat, "whiteout of"},
		"below a whiteout":         {[]tarItem{textItem(".wh.a/b", "")}, ErrFormat, "below a whiteout"},
		"long component":           {[]tarItem{textItem(long, "")}, ErrFormat, `" of 300 bytes, 255 are allowed`},
		"long name":                {[]tarItem{textItem(strings.Repeat("n/", 3000)+"n", "")}, ErrFormat, "name of 6001 bytes"},
		"unknown type":             {[]tarItem{item('V', "volume", "")}, ErrFormat, `unknown type 'V'`},
		"root is a file":           {[]tarItem{textItem("a/..", "")}, ErrFormat, "root is not a directory"},
		"symlink to nothing":       {[]tarItem{item('2', "a", "")}, ErrFormat, "symlink to"},
		"symlink too long":         {[]tarItem{item('2', "a", strings.Repeat("x", 4096))}, ErrFormat, "symlink to"},
		"owner beyond 32 bits":     {[]tarItem{{Header: tar.Header{Name: "a", Uid: 1 << 32}}}, ErrFormat, "out of range"},
		"device beyond 12 bits":    {[]tarItem{{Header: tar.Header{Name: "a", Typeflag: '3', Devmajor: 4096}}}, ErrFormat, "out of range"},
		"attribute of 64 KiB":      {[]tarItem{{Header: tar.Header{Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 65536)}}}}, ErrFormat, "extended attribute"},
		"attribute with long name": {[]tarItem{{Header: tar.Header{Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.user." + long: "x"}}}}, ErrFormat, "extended attribute"},
	} {
		t.Run(what, func(t *testing.T) {
			refuse(t, makeTar(t, c.items...), IngestOptions{}, c.want, c.say)
		})
	}
}

func refuse(t *testing.T, b []byte, o IngestOptions, want error, say string) {
	t.Helper()
	dir := t.TempDir()
	_, err := Ingest(t.Context(), dir, bytes.NewReader(b), o)
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), say) {
		t.Errorf("got %v, want %v saying %q", err, want, say)
	}
	expectEmpty(t, dir)
}

// Bytes that archive/tar would not write.
func TestIngestRefusesBytes(t *testing.T) {
	good := makeTar(t, textItem("a", strings.Repeat("content", 100)), textItem("b", "x"))
	patch := func(off int, s string) []byte {
		b := bytes.Clone(good)
		copy(b[off:], s)
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b[:512] {
			sum += int(c)
		}
		copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	raw := func(kind byte, body string) []byte {
		h := header{name: "x", kind: kind, size: int64(len(body))}
		b := h.appendBlock(nil, "", "x", true)
		b = append(b, body...)
		return append(append(b, zeros[:-len(b)&511]...), good...)
	}
	for what, c := range map[string]struct {
		b    []byte
		want error
		say  string
	}{
		"text":              {[]byte(strings.Repeat("this is no tar\n", 100)), ErrFormat, "not a tar header"},
		"short text":        {[]byte("no tar"), ErrTruncated, "byte 0"},
		"bad checksum":      {append([]byte("b"), good[1:]...), ErrFormat, "byte 0: not a tar header"},
		"negative size":     {patch(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"), ErrFormat, `entry "a" at byte 0: size -256`},
		"huge size":         {patch(124, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), ErrTruncated, `entry "a"`},
		"size overflows":    {patch(124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), ErrFormat, "bad number"},
		"size of letters":   {patch(124, "sizesizesiz"), ErrFormat, "bad number"},
		"size lies, more":   {patch(124, "00000003000"), ErrFormat, "not a tar header"},
		"negative owner":    {patch(108, "\xff\xff\xff\xff\xff\xff\xff\xff"), ErrFormat, "owner -1:"},
		"one zero block":    {append(make([]byte, 512), good...), ErrFormat, "data after a block of zeros"},
		"in header":         {good[:100], ErrTruncated, "byte 0"},
		"in content":        {good[:600], ErrTruncated, `entry "a"`},
		"in second header":  {good[:1700], ErrTruncated, "byte 1536"},
		"PAX without size":  {raw('x', "path=b\n"), ErrFormat, "PAX record"},
		"PAX size too big":  {raw('x', "99 path=b\n"), ErrFormat, "PAX record"},
		"PAX no newline":    {raw('x', "10 path=bb"), ErrFormat, "PAX record"},
		"PAX no key":        {raw('x', "7 =abc\n"), ErrFormat, "PAX record"},
		"PAX NUL in path":   {raw('x', "12 path=a\x00b\n"), ErrFormat, "PAX record"},
		"PAX bad number":    {raw('x', "10 size=x\n"), ErrFormat, "PAX record size"},
		"PAX negative size": {raw('x', "11 size=-1\n"), ErrFormat, "size -1"},
		"PAX bad time":      {raw('x', "11 mtime=x\n"), ErrFormat, "PAX record mtime"},
		"PAX of 2 MiB":      {raw('x', strings.Repeat("x", 2<<20)), ErrLimit, "2097152 bytes of extended header"},
		"name of 2 MiB":     {raw('L', strings.Repeat("x", 2<<20)), ErrLimit, "extended header"},
		"sparse, no GNU":    {raw('S', ""), ErrFormat, "sparse file of an unknown kind"},
	} {
		t.Run(what, func(t *testing.T) { refuse(t, c.b, IngestOptions{}, c.want, c.say) })
	}
}

func TestIngestAccepts(t *testing.T) {
	for what, c := range map[string]struct {
		items []tarItem
		want  []string // name and what it is
		info  Info     // Entries only
	}{
		"leading slash and dots": {[]tarItem{textItem("/etc/x", "1"), textItem("./y", "2"), textItem("a/./b/../c", "3")},
			[]string{". implied", "a implied", "a/c 3", "etc implied", "etc/x 1", "y 2"}, Info{Entries: 3}},
		"last file wins": {[]tarItem{textItem("a", "1"), textItem("a", "22"), textItem("a", "333")},
			[]string{". implied", "a 333"}, Info{Entries: 1}},
		"directory over directory keeps children": {[]tarItem{item('5', "d/", ""), textItem("d/x", "1"), item('5', "d/", "")},
			[]string{". implied", "d dir", "d/x 1"}, Info{Entries: 2}},
		"file over directory": {[]tarItem{textItem("d/x", "1"), textItem("d", "2")}, []string{". implied", "d 2"}, Info{Entries: 1}},
		"directory over file": {[]tarItem{textItem("d", "2"), item('5', "d/", ""), textItem("d/x", "1")},
			[]string{". implied", "d dir", "d/x 1"}, Info{Entries: 2}},
		"symlink over directory": {[]tarItem{textItem("d/x", "1"), item('2', "d", "e")}, []string{". implied", "d -> e"}, Info{Entries: 1}},
		"directory over symlink": {[]tarItem{item('2', "d", "/etc"), item('5', "d", ""), textItem("d/passwd", "1")},
			[]string{". implied", "d dir", "d/passwd 1"}, Info{Entries: 2}},
		"parent after child":  {[]tarItem{textItem("d/x", "1"), item('5', "d/", "")}, []string{". implied", "d dir", "d/x 1"}, Info{Entries: 2}},
		"link outlives name":  {[]tarItem{textItem("a", "1"), item('1', "b", "a"), textItem("a", "2")}, []string{". implied", "a 2", "b 1"}, Info{Entries: 2}},
		"link by ./":          {[]tarItem{textItem("a", "1"), item('1', "b", "./a"), item('1', "c", "/b")}, []string{". implied", "a 1 x3", "b 1 x3", "c 1 x3"}, Info{Entries: 3}},
		"link to itself":      {[]tarItem{textItem("a", "1"), item('1', "a", "a")}, []string{". implied", "a 1"}, Info{Entries: 1}},
		"link to symlink":     {[]tarItem{item('2', "a", "x"), item('1', "b", "a")}, []string{". implied", "a -> x x2", "b -> x x2"}, Info{Entries: 2}},
		"link to dropped":     {[]tarItem{textItem("d/a", "1"), item('1', "b", "d/a"), textItem("d", "2")}, []string{". implied", "b 1", "d 2"}, Info{Entries: 2}},
		"whiteout":            {[]tarItem{textItem("a/.wh.b", "")}, []string{". implied", "a implied", "a/b whiteout"}, Info{Entries: 1}},
		"whiteout with body":  {[]tarItem{textItem("a/.wh.b", "body"), textItem("c", "1")}, []string{". implied", "a implied", "a/b whiteout", "c 1"}, Info{Entries: 2}},
		"opaque":              {[]tarItem{item('5', "a/", ""), textItem("a/.wh..wh..opq", "")}, []string{". implied", "a dir opaque"}, Info{Entries: 1}},
		"opaque, dir later":   {[]tarItem{textItem("a/.wh..wh..opq", ""), item('5', "a/", "")}, []string{". implied", "a dir opaque"}, Info{Entries: 1}},
		"opaque root":         {[]tarItem{textItem(".wh..wh..opq", "")}, []string{". implied opaque"}, Info{}},
		"whiteout, then dir":  {[]tarItem{textItem(".wh.a", ""), item('5', "a/", "")}, []string{". implied", "a dir opaque"}, Info{Entries: 1}},
		"dir, then whiteout":  {[]tarItem{item('5', "a/", ""), textItem(".wh.a", "")}, []string{". implied", "a dir opaque"}, Info{Entries: 1}},
		"whiteout, then file": {[]tarItem{textItem(".wh.a", ""), textItem("a", "1")}, []string{". implied", "a 1"}, Info{Entries: 1}},
		"file, then whiteout": {[]tarItem{textItem("a", "1"), textItem(".wh.a", "")}, []string{". implied", "a 1"}, Info{Entries: 1}},
		"whiteout, then below": {[]tarItem{textItem(".wh.a", ""), textItem("a/b", "1")},
			[]string{". implied", "a implied opaque", "a/b 1"}, Info{Entries: 1}},
		"char 0:0":          {[]tarItem{item('3', "a", "")}, []string{". implied", "a whiteout"}, Info{Entries: 1}},
		"what AUFS left":    {[]tarItem{item('5', ".wh..wh.plnk/", ""), textItem(".wh..wh.aufs", ""), textItem(".wh..wh.plnk/1", "x"), textItem("a", "1")}, []string{". implied", "a 1"}, Info{Entries: 1}},
		"root":              {[]tarItem{item('5', "./", "")}, []string{". dir"}, Info{Entries: 1}},
		"nothing":           {nil, []string{". implied"}, Info{}},
		"reverse order":     {[]tarItem{textItem("c", "3"), textItem("b", "2"), textItem("a", "1"), textItem("b", "4")}, []string{". implied", "a 1", "b 4", "c 3"}, Info{Entries: 3}},
		"odd attributes":    {[]tarItem{{Header: tar.Header{Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.weird": "1", "SCHILY.xattr.trusted.overlay.redirect": "/x", "SCHILY.xattr.user.overlay.opaque": "y"}}}}, []string{". implied", "a  weird=1"}, Info{Entries: 1}},
		"content behind 16": {[]tarItem{textItem("a", strings.Repeat("x", 3<<20)), textItem("b", "1")}, []string{". implied", "a " + strings.Repeat("x", 3<<20), "b 1"}, Info{Entries: 2}},
	} {
		t.Run(what, func(t *testing.T) {
			l, info := ingest(t, makeTar(t, c.items...))
			var got []string
			for s, err := range l.All() {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, describe(t, l, s))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if info.Entries != c.info.Entries {
				t.Errorf("%d entries, want %d", info.Entries, c.info.Entries)
			}
		})
	}
}

func describe(t *testing.T, l *Layer, s *Stat) string {
	t.Helper()
	d := s.Name
	switch {
	case s.Whiteout:
		d += " whiteout"
	case s.Implicit:
		d += " implied"
	case s.Mode&unix.S_IFMT == unix.S_IFDIR:
		d += " dir"
	case s.Mode&unix.S_IFMT == unix.S_IFLNK:
		target, err := l.ReadLink(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		d += " -> " + target
	default:
		b, err := fs.ReadFile(l.FS(), s.Name)
		if err != nil {
			t.Fatal(err)
		}
		d += " " + string(b)
	}
	if s.Opaque {
		d += " opaque"
	}
	if s.Nlink > 1 && s.Mode&unix.S_IFMT != unix.S_IFDIR {
		d += fmt.Sprintf(" x%d", s.Nlink)
	}
	for k, v := range s.Xattrs {
		d += fmt.Sprintf(" %s=%s", k, v)
	}
	return d
}

// What GNU tar writes in each of its formats is what the kernel then shows.
func TestIngestFormats(t *testing.T) {
	src := workDir(t)
	long := strings.Repeat("long", 40)
	run := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = src
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run(`mkdir -p tree/d tree/` + long + `
		cd tree; echo hello >d/a; ln d/a d/hard; ln -s ../target d/l; mkfifo p; mknod c c 5 1; mknod b b 259 3
		echo x >` + long + `/` + long + `; ln -s ` + long + long + ` longlink; ln ` + long + `/` + long + ` zhard
		truncate -s 3M sparse; printf middle | dd of=sparse bs=1 seek=1048576 conv=notrunc status=none; printf end | dd of=sparse bs=1 seek=2500000 conv=notrunc status=none
		truncate -s 1M hole; truncate -s 1048577 oddhole
		for i in $(seq 40); do printf $i | dd of=many bs=1 seek=$((i*65536)) conv=notrunc status=none; done
		chmod 4711 d/a; chown 12345:54321 d/a; touch -d @1600000000.5 d/a; touch -d @1 sparse; mkdir e; chmod 1777 e`)
	for _, c := range []struct {
		format string
		args   []string
		names  string
	}{
		{"v7", nil, "c b d/a d/hard d/l p"}, // it cannot say more
		{"oldgnu", nil, ""}, {"gnu", nil, ""}, {"ustar", nil, "c b d/a d/hard d/l e p hole"}, {"posix", nil, ""},
		{"oldgnu", []string{"--sparse"}, ""}, {"gnu", []string{"--sparse"}, ""},
		{"posix", []string{"--sparse", "--sparse-version=0.0"}, ""}, {"posix", []string{"--sparse", "--sparse-version=0.1"}, ""},
		{"posix", []string{"--sparse", "--sparse-version=1.0"}, ""},
	} {
		t.Run(strings.Join(append([]string{c.format}, c.args...), " "), func(t *testing.T) {
			path := filepath.Join(src, "t.tar")
			args := append([]string{"-cf", path, "--format=" + c.format, "--sort=name", "-C", filepath.Join(src, "tree")}, c.args...)
			if c.names == "" {
				args = append(args, ".")
			} else {
				args = append(args, strings.Fields(c.names)...)
				if c.format == "v7" {
					args = slices.DeleteFunc(args, func(s string) bool { return s == "c" || s == "b" || s == "p" })
				}
			}
			if out, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			l, _ := ingest(t, readFile(t, path))
			got := scan(t, mountIndex(t, l.dir))
			want := scan(t, untar(t, path))
			if s, err := l.Lstat("."); err == nil && s.Sys().(*Stat).Implicit {
				delete(want, ".")
				delete(got, ".")
			}
			if s, err := l.Lstat("d"); err == nil && s.Sys().(*Stat).Implicit {
				delete(want, "d")
				delete(got, "d")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tar (-), kernel (+):\n%s", diff)
			}
			// And what the kernel shows, our own reader reads.
			for s, err := range l.All() {
				if err != nil {
					t.Fatal(err)
				}
				if s.Mode&unix.S_IFMT != unix.S_IFREG {
					continue
				}
				ours, err := fs.ReadFile(l.FS(), s.Name)
				if err != nil || !bytes.Equal(ours, readFile(t, l.dir, "mnt", s.Name)) {
					t.Errorf("%q: other content than the kernel's, %v", s.Name, err)
				}
			}
		})
	}
}

// A sparse file whose parts are not on block borders is copied into the index.
func TestIngestUnalignedSparse(t *testing.T) {
	parts := []string{"first", strings.Repeat("second", 300), "third"}
	offs := []int64{3, 2000, 70_001}
	const size = 100_003
	var body bytes.Buffer
	spec := fmt.Sprint(len(parts), "\n")
	for i, p := range parts {
		spec += fmt.Sprintf("%d\n%d\n", offs[i], len(p))
	}
	body.WriteString(spec)
	body.Write(zeros[:-len(spec)&511])
	want := make([]byte, size)
	for i, p := range parts {
		body.WriteString(p)
		copy(want[offs[i]:], p)
	}
	h := header{name: "GNUSparseFile.0/f", kind: '0', mode: 0o644, size: int64(body.Len())}
	pax := appendRecord(nil, "GNU.sparse.major", "1")
	pax = appendRecord(pax, "GNU.sparse.minor", "0")
	pax = appendRecord(pax, "GNU.sparse.name", "f")
	pax = appendRecord(pax, "GNU.sparse.realsize", fmt.Sprint(size))
	x := header{name: "x", kind: 'x', size: int64(len(pax))}
	b := x.appendBlock(nil, "", "x", false)
	b = append(append(b, pax...), zeros[:-len(pax)&511]...)
	b = h.appendBlock(b, "", h.name, true)
	b = append(append(b, body.Bytes()...), zeros[:-body.Len()&511]...)
	b = append(b, makeTar(t, textItem("g", "next"))...)

	l, info := ingest(t, b)
	got := readFile(t, mountIndex(t, l.dir), "f")
	ours, err := fs.ReadFile(l.FS(), "f")
	if err != nil || !bytes.Equal(got, want) || !bytes.Equal(ours, want) {
		t.Errorf("the kernel reads %d bytes, we %d, %v", len(got), len(ours), err)
	}
	// Sparse or not, the same content is the same.
	_, plain := write(t, with(regular("f", string(want)), func(f *File) { f.ModTime = time.Time{} }), with(regular("g", "next"), func(f *File) { f.ModTime = time.Time{} }))
	if info.Content != plain.Content {
		t.Error("sparse files have another content")
	}
}

func TestDecompress(t *testing.T) {
	plain := makeTar(t, textItem("a", strings.Repeat("hello ", 50_000)))
	pack := func(w io.WriteCloser, err error) {
		if err == nil {
			_, err = w.Write(plain)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var gz, zs, x bytes.Buffer
	pack(gzip.NewWriter(&gz), nil)
	pack(zstd.NewWriter(&zs))
	xw, err := xz.NewWriter(&x)
	pack(xw, err)
	cmd := exec.Command("bzip2", "-c")
	cmd.Stdin = bytes.NewReader(plain)
	bz, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	skippable := append([]byte("\x5a\x2a\x4d\x18\x04\x00\x00\x00junk"), zs.Bytes()...)
	half := len(plain) / 2
	var members bytes.Buffer
	for _, b := range [][]byte{plain[:half], plain[half:]} {
		w := gzip.NewWriter(&members)
		w.Write(b)
		w.Close()
	}
	for what, c := range map[string]struct {
		b    []byte
		name string
	}{
		"plain": {plain, ""}, "gzip": {gz.Bytes(), "gzip"}, "zstd": {zs.Bytes(), "zstd"}, "xz": {x.Bytes(), "xz"}, "bzip2": {bz, "bzip2"},
		"skippable zstd": {skippable, "zstd"}, "two gzip members": {members.Bytes(), "gzip"},
	} {
		t.Run(what, func(t *testing.T) {
			rc, name, err := Decompress(iotest.OneByteReader(bytes.NewReader(c.b)))
			if err != nil || name != c.name {
				t.Fatalf("got %q, %v", name, err)
			}
			got, err := io.ReadAll(rc)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err := rc.Close(); err != nil {
				t.Error(err)
			}
			dir := t.TempDir()
			info, err := Ingest(t.Context(), dir, bytes.NewReader(c.b), IngestOptions{DiffID: digest.FromBytes(plain)})
			if err != nil || info.Size != int64(len(plain)) {
				t.Errorf("%+v, %v", info, err)
			}
			if c.name == "" {
				return
			}
			refuse(t, c.b[:len(c.b)/2], IngestOptions{}, io.ErrUnexpectedEOF, "truncated")
			damaged := bytes.Clone(c.b)
			damaged[len(damaged)-3] ^= 0x55
			damaged[len(damaged)/2] ^= 0x55
			if _, err := Ingest(t.Context(), t.TempDir(), bytes.NewReader(damaged), IngestOptions{}); err == nil {
				t.Error("damage went unnoticed")
			}
		})
	}
}

// Names may look like magic numbers.
func TestDecompressTarWithMagicName(t *testing.T) {
	for _, name := range []string{"BZh91AY&SY", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "\xfd7zXZ"} {
		h := header{name: name, kind: '0', mode: 0o644}
		b := h.appendBlock(nil, "", "", true)
		copy(b, name)
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		putOctal(b[148:155], int64(sum))
		l, _ := ingest(t, append(b, make([]byte, 1024)...))
		if _, err := l.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}

func TestIngestLimits(t *testing.T) {
	many := make([]tarItem, 100)
	for i := range many {
		many[i] = textItem(fmt.Sprintf("f%02d", i), "")
	}
	deep := []tarItem{textItem(strings.Repeat("d/", 200)+"f", "")}
	refuse(t, makeTar(t, many...), IngestOptions{Limits: Limits{MaxEntries: 50}}, ErrLimit, "more than 50 entries")
	refuse(t, makeTar(t, deep...), IngestOptions{Limits: Limits{MaxEntries: 50}}, ErrLimit, "more than 50 entries")
	refuse(t, makeTar(t, textItem("a", strings.Repeat("x", 3<<20))), IngestOptions{Limits: Limits{MaxSize: 2 << 20}}, ErrLimit, `entry "a": more than 2097152 bytes`)
	if _, err := Ingest(t.Context(), t.TempDir(), bytes.NewReader(makeTar(t, many...)), IngestOptions{Limits: Limits{MaxEntries: 101}}); err != nil {
		t.Error(err)
	}
}

// Ten gigabytes of zeros in ten megabytes are given up early, and took no disk.
func TestIngestBomb(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		gz, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		h := header{name: "bomb", kind: '0', mode: 0o644, size: 10 << 30}
		b, _ := h.append(nil, nil)
		gz.Write(b)
		zeros := make([]byte, 1<<20)
		for range 10 << 10 {
			if _, err := gz.Write(zeros); err != nil {
				return
			}
		}
		gz.Close()
		w.Close()
	}()
	dir := t.TempDir()
	_, err := Ingest(t.Context(), dir, r, IngestOptions{Limits: Limits{MaxRatio: 100}})
	r.Close()
	if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), `entry "bomb"`) {
		t.Errorf("got %v", err)
	}
	expectEmpty(t, dir)
}

// A few bytes that claim a sparse file of a petabyte cost nothing.
func TestIngestSparseBomb(t *testing.T) {
	h := header{name: "f", kind: '0', mode: 0o644}
	pax := appendRecord(nil, "GNU.sparse.map", "")
	pax = appendRecord(pax, "GNU.sparse.major", "0")
	pax = appendRecord(pax, "GNU.sparse.minor", "1")
	pax = appendRecord(pax, "GNU.sparse.numblocks", "0")
	pax = appendRecord(pax, "GNU.sparse.size", "1125899906842624")
	x := header{name: "x", kind: 'x', size: int64(len(pax))}
	b := x.appendBlock(nil, "", "x", false)
	b = append(append(b, pax...), zeros[:-len(pax)&511]...)
	b = h.appendBlock(b, "", h.name, true)
	refuse(t, append(b, make([]byte, 1024)...), IngestOptions{}, ErrLimit, `entry "f"`)
}

func TestIngestWrongDiffID(t *testing.T) {
	b := makeTar(t, textItem("a", "x"))
	refuse(t, b, IngestOptions{DiffID: digest.FromString("other")}, ErrDiffID, digest.FromBytes(b).String())
}

func TestIngestSourceFails(t *testing.T) {
	b, failing := makeTar(t, textItem("a", strings.Repeat("x", 5<<20))), errors.New("connection lost")
	dir := t.TempDir()
	_, err := Ingest(t.Context(), dir, io.MultiReader(bytes.NewReader(b[:2<<20]), errReader{failing}), IngestOptions{})
	if !errors.Is(err, failing) || !strings.Contains(err.Error(), `entry "a"`) {
		t.Errorf("got %v", err)
	}
	expectEmpty(t, dir)
	if _, err = Ingest(t.Context(), dir, errReader{failing}, IngestOptions{}); !errors.Is(err, failing) {
		t.Errorf("got %v", err)
	}
	if _, err = Ingest(t.Context(), dir, io.MultiReader(bytes.NewReader(b[:2<<20]), errReader{io.ErrUnexpectedEOF}), IngestOptions{}); !errors.Is(err, ErrTruncated) {
		t.Errorf("got %v", err)
	}
	expectEmpty(t, dir)
}

func TestIngestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b, dir := makeTar(t, textItem("a", strings.Repeat("x", 64<<20))), t.TempDir()
	n := 0
	r := readerFunc(func(p []byte) (int, error) {
		if n > 20<<20 {
			cancel()
		}
		m := copy(p, b[n:])
		n += m
		return m, nil
	})
	if _, err := Ingest(ctx, dir, r, IngestOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	expectEmpty(t, dir)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestIngestFullDisk(t *testing.T) {
	dir := smallDisk(t, "1m")
	b := makeTar(t, textItem("a", strings.Repeat("x", 40<<20)))
	if _, err := Ingest(t.Context(), dir, bytes.NewReader(b), IngestOptions{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	expectEmpty(t, dir)
}

// Bytes after the end belong to the layer: its digest covers them.
func TestIngestTrailing(t *testing.T) {
	b := append(makeTar(t, textItem("a", "x")), strings.Repeat("trailing", 1000)...)
	ingest(t, b)
	ingest(t, append(makeTar(t, textItem("a", "x")), make([]byte, 3<<20)...))
	ingest(t, makeTar(t, textItem("a", strings.Repeat("x", 512)))[:1024]) // no end at all, as Go's reader takes it
	ingest(t, makeTar(t, textItem("a", "x"))[:513])
}
