package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// seeds are tars of all kinds.
func seeds(f *testing.F) [][]byte {
	dir, _ := write(f, nasty()[:40]...)
	list := [][]byte{
		readFile(f, dir, tarFile),
		makeTar(f, textItem("a", "hello"), item('1', "b", "a"), item('2', "c", "a"), item('5', "d/", ""), textItem("d/.wh.x", ""), textItem("d/.wh..wh..opq", "")),
		makeTar(f, tarItem{tar.Header{Name: strings.Repeat("n", 200), Format: tar.FormatGNU, Linkname: strings.Repeat("l", 200), Typeflag: '2'}, ""}),
		makeTar(f, tarItem{tar.Header{Name: "x", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}, Uid: 1 << 25}, "body"}),
		makeTar(f, tarItem{tar.Header{Typeflag: 'g', Name: "g", PAXRecords: map[string]string{"path": "global"}}, ""}, textItem("z", "1")),
	}
	src := workDir(f)
	script := `truncate -s 200k s; printf x | dd of=s bs=1 seek=70000 conv=notrunc status=none; printf y | dd of=s bs=1 seek=140000 conv=notrunc status=none; echo hi >a`
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = src
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Fatalf("%v\n%s", err, out)
	}
	for _, format := range []string{"v7", "oldgnu --sparse", "gnu --sparse", "posix --sparse --sparse-version=0.0", "posix --sparse --sparse-version=0.1", "posix --sparse --sparse-version=1.0"} {
		args := append([]string{"-C", src, "-b1", "-c", "a", "s"}, strings.Fields("--format="+format)...)
		if format == "v7" {
			args = []string{"-C", src, "-b1", "-c", "a", "--format=v7"}
		}
		out, err := exec.Command("tar", args...).Output()
		if err != nil {
			f.Fatal(err)
		}
		list = append(list, out)
	}
	return list
}

// seen is what a reader says of an entry.
type seen struct {
	name, link         string
	kind               byte
	size, mode, sec    int64
	uid, gid, maj, min int64
	nsec               int
	sum                [sha256.Size]byte
}

const fuzzFile = 1 << 20 // larger files are not hashed

// ours reads all entries with our reader.
func ours(t *testing.T, b []byte) (list []seen, err error) {
	s := newHashSink()
	defer s.close()
	r := bytes.NewReader(b)
	source := &counter{r: r}
	g := ingester{limits: Limits{}.withDefaults(), source: source, hash: sha256.New()}
	g.in = startFeed(t.Context(), s, source, source, g.limits)
	defer g.in.drain()
	g.tar.in = g.in
	for {
		e, err := g.tar.next()
		if e == nil || err != nil {
			return list, err
		}
		k := seen{name: e.name, link: e.link, kind: e.kind, size: e.real, mode: e.mode64, sec: e.sec, nsec: int(e.nsec),
			uid: e.uid64, gid: e.gid64, maj: e.dev64[0], min: e.dev64[1]}
		if e.real > fuzzFile {
			err = g.skip("x", e.size)
		} else {
			n := &inode{}
			err = g.content("x", e, n)
			k.sum = n.sum
		}
		if err != nil {
			return list, err
		}
		list = append(list, k)
	}
}

// theirs reads all entries with archive/tar.
func theirs(b []byte) (list []seen, err error) {
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		if h.Typeflag == 'g' {
			continue
		}
		k := seen{name: h.Name, link: h.Linkname, kind: h.Typeflag, size: h.Size, mode: h.Mode, sec: h.ModTime.Unix(), nsec: h.ModTime.Nanosecond(),
			uid: int64(h.Uid), gid: int64(h.Gid), maj: h.Devmajor, min: h.Devminor}
		if isHeaderOnly(h.Typeflag) {
			k.size = 0 // it keeps what the header said
		}
		if h.Size <= fuzzFile || isHeaderOnly(h.Typeflag) {
			sum := sha256.New()
			if _, err := io.Copy(sum, r); err != nil {
				return list, err
			}
			sum.Sum(k.sum[:0])
		} else if _, err := io.Copy(io.Discard, io.LimitReader(r, 10<<20)); err != nil {
			return list, err
		}
		list = append(list, k)
	}
}

// FuzzTarReader: whatever Go's reader, which docker and containerd use, takes a
// layer to be, ours does too, or refuses it.
func FuzzTarReader(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fix(b)
		our, oerr := ours(t, b)
		their, terr := theirs(b)
		for i := range min(len(our), len(their)) {
			if our[i] != their[i] {
				t.Fatalf("entry %d: ours\n%+v\ntheirs\n%+v", i, our[i], their[i])
			}
		}
		switch {
		case oerr == nil && terr != nil:
			t.Fatalf("we take %d entries, they %d and then %v", len(our), len(their), terr)
		case oerr == nil && len(our) != len(their), oerr != nil && len(our) > len(their):
			t.Fatalf("we take %d entries (%v), they %d (%v)", len(our), oerr, len(their), terr)
		}
	})
}

// fix makes the checksums of headers right, so that the fuzzer gets past them.
func fix(b []byte) {
	for i := 0; i+blockSize <= len(b); i += blockSize {
		h := b[i : i+blockSize]
		if string(h[offMagic:offMagic+5]) != "ustar" {
			continue
		}
		copy(h[148:156], "        ")
		sum := int64(0)
		for _, c := range h {
			sum += int64(c)
		}
		putOctal(h[148:155], sum)
	}
}

// FuzzIngest takes anything in; what it takes, it can index again, list, read
// and write as a canonical layer of the same content.
func FuzzIngest(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	dir := workDir(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		fix(b)
		dir, again := filepath.Join(dir, "1"), filepath.Join(dir, "2")
		os.Mkdir(dir, 0o755)
		os.Mkdir(again, 0o755)
		info, err := Ingest(t.Context(), dir, bytes.NewReader(b), IngestOptions{Limits: Limits{MaxSize: 64 << 20}})
		if err != nil {
			for _, known := range []error{ErrFormat, ErrLimit, ErrTruncated, ErrUnsafe} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("an error of no kind: %v", err)
		}
		index := readFile(t, dir, indexFile)
		if got, err := Reindex(t.Context(), dir); err != nil || got != info && CompressionOf(b[:min(len(b), SniffSize)]) == "" {
			t.Fatalf("%+v, %v, was %+v", got, err, info)
		}
		if !bytes.Equal(index, readFile(t, dir, indexFile)) {
			t.Fatal("another index")
		}
		l, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for s, err := range l.All() {
			if err != nil {
				t.Fatal(err)
			}
			if s.Implicit && s.Opaque {
				return // which a canonical layer cannot say
			}
		}
		got, err := rewrite(t, l, again)
		if err != nil && !strings.Contains(fmt.Sprint(err), `cannot carry a name with "="`) && !strings.Contains(err.Error(), "mean deletions") {
			t.Fatal(err)
		}
		if err == nil && got.Content != info.Content {
			t.Fatalf("%+v, was %+v", got, info)
		}
	})
}

// rewrite writes what l holds as a canonical layer.
func rewrite(t testing.TB, l *Layer, dir string) (Info, error) {
	return Write(t.Context(), dir, func(yield func(File, error) bool) {
		for s, err := range l.All() {
			if err == nil && s.Implicit {
				continue
			}
			f := File{}
			if err == nil {
				f = File{Entry: s.Entry, Open: func() (io.ReadCloser, error) { return l.Open(s.Name) }}
			}
			if !yield(f, err) {
				return
			}
		}
	})
}
