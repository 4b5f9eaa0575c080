package note

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func file(name string, mode uint32, sum byte) File {
	return File{Name: name, Mode: mode, Sum: Sum{sum}}
}

const (
	reg  = 0o100644
	exec = 0o100755
	dir  = 0o040755
	link = 0o120777
)

func tree(files ...File) Tree { return Tree{Total: len(files), Files: files} }

func TestRoundTrip(t *testing.T) {
	long := Note{Step: "COPY . /", Pos: "Dockerfile:2"}
	for i := range 3000 {
		long.Trees = append(long.Trees, tree(file(fmt.Sprint("dir/", i), reg, byte(i))))
	}
	for _, n := range []Note{
		{},
		{Step: "RUN make", Pos: "Dockerfile:7", Place: "[build 2/5]", Inputs: []Input{{Step: "FROM debian", Base: "debian:12", ID: "sha256:00"}, {Step: "COPY a /"}}},
		{Trees: []Tree{tree(File{"\xff\n", link, Sum{1}, Sum{2}}), {}, {Total: MaxFiles + 1}}},
		long,
	} {
		data := n.Encode()
		got, err := Decode(data)
		if err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("%.200v became %.200v, %v", n, got, err)
		}
		if head, err := Head(data); err != nil || head.Step != n.Step || head.Pos != n.Pos || head.Place != n.Place {
			t.Errorf("the head of %.200v is %.200v, %v", n, head, err)
		}
		if len(data) > 40_000 {
			t.Errorf("%d bytes", len(data))
		}
	}
}

// TestFirstVersion: what earlier versions wrote is read.
func TestFirstVersion(t *testing.T) {
	data := []byte{1, 0, 3, 'R', 'U', 'N', 2, 'D', ':', 0, 0}
	want := Note{Step: "RUN", Pos: "D:"}
	if got, err := Decode(data); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Head(data); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("head %+v, %v", got, err)
	}
}

// TestTooLarge: a note that would be larger than is kept names no files, and says how many there were.
func TestTooLarge(t *testing.T) {
	n := Note{Step: "COPY . /"}
	var files []File
	for i := range 100_000 {
		// Names that do not compress.
		f := file(fmt.Sprintf("%x-%x", uint32(i)*2654435761, uint64(i)*0x9e3779b97f4a7c15), reg, 0)
		for j := range f.Sum {
			f.Sum[j] = byte(uint64(i) * 0x9e3779b97f4a7c15 >> (8 * j))
			f.Attr[j] = f.Sum[j] ^ byte(uint64(i)*0xbf58476d1ce4e5b9>>(8*j))
		}
		files = append(files, f)
	}
	n.Trees = []Tree{tree(files...), tree(files...)}
	data := n.Encode()
	got, err := Decode(data)
	if err != nil || len(data) > MaxSize || got.Step != n.Step || got.Trees[1].Total != 100_000 || got.Trees[0].Complete() {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestCompare(t *testing.T) {
	a := file("a", reg, 1)
	for _, c := range []struct {
		title    string
		old, now Tree
		kind     Kind
		name     string
		n        int
	}{
		{"same", tree(a), tree(a), 0, "", 0},
		{"content", tree(a), tree(file("a", reg, 2)), Content, "a", 1},
		{"mode", tree(a), tree(file("a", exec, 1)), Mode, "a", 1},
		{"mode and content", tree(a), tree(file("a", exec, 2)), Content, "a", 1},
		{"type", tree(a), tree(file("a", link, 1)), Type, "a", 1},
		{"attributes", tree(a), tree(File{"a", reg, Sum{1}, Sum{1}}), Attr, "a", 1},
		{"added", tree(a), tree(a, file("b", reg, 1)), Added, "b", 1},
		{"removed", tree(a, file("b", reg, 1)), tree(a), Removed, "b", 1},
		{"all removed", tree(a), Tree{}, Removed, "a", 1},
		{"several", tree(a, file("b", reg, 1)), tree(file("a", reg, 2), file("b", exec, 1)), Content, "a", 2},
		{"directory with a file", tree(file(".", dir, 0)), tree(file(".", dir, 0), file("d", dir, 0), file("d/f", reg, 1)), Added, "d/f", 2},
		{"directory alone", tree(), tree(file("d", dir, 0)), Added, "d", 1},
		{"a file named twice", tree(a, a), tree(a), 0, "", 0},
	} {
		got, n := Compare(c.old, c.now)
		if got.Kind != c.kind || got.Name != c.name || n != c.n {
			t.Errorf("%s: %+v, %d", c.title, got, n)
		}
	}
}

// FuzzDecode: what decodes is encoded and decoded again as the same.
func FuzzDecode(f *testing.F) {
	f.Add(Note{}.Encode())
	f.Add(Note{Step: "RUN x", Inputs: []Input{{"a", "b", "c"}}, Trees: []Tree{tree(file("a", reg, 1)), {Total: 7}}}.Encode())
	f.Add(Note{Step: strings.Repeat("RUN x", 200)}.Encode())
	f.Add([]byte{version, plain, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{version, packed, 0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, data []byte) {
		head, herr := Head(data)
		n, err := Decode(data)
		if err != nil {
			return
		}
		if herr != nil || head.Step != n.Step || head.Place != n.Place {
			t.Errorf("the head of %+v is %+v, %v", n, head, herr)
		}
		again, err := Decode(n.Encode())
		if err != nil || !reflect.DeepEqual(n, again) {
			t.Errorf("%+v became %+v, %v", n, again, err)
		}
		for _, tr := range n.Trees {
			Compare(tr, Tree{})
		}
	})
}
