package layer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ingestArchive reads b as an archive and lists what it came out as.
func ingestArchive(t *testing.T, b []byte) ([]string, error) {
	t.Helper()
	dir := t.TempDir()
	if _, err := Ingest(t.Context(), dir, bytes.NewReader(b), IngestOptions{Archive: true}); err != nil {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v is left behind", left)
		}
		return nil, err
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got []string
	for s, err := range l.All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, describe(t, l, s))
	}
	return got, nil
}

// TestIngestArchive: what would be refused in a layer is followed in an archive, never out of it.
func TestIngestArchive(t *testing.T) {
	var chain []tarItem
	chained := []string{". implied"}
	for i := range 40 { // as many as are followed
		from, to := fmt.Sprintf("l%02d", i), fmt.Sprintf("l%02d", i+1)
		chain = append(chain, item('2', from, to))
		chained = append(chained, from+" -> "+to)
	}
	chain = append(chain, textItem("l00/f", "1"))
	chained = append(chained, "l40 implied", "l40/f 1")
	for what, c := range map[string]struct {
		items []tarItem
		want  []string
	}{
		"up at the root":   {[]tarItem{item('2', "a", ".."), textItem("a/etc/f", "1")}, []string{". implied", "a -> ..", "etc implied", "etc/f 1"}},
		"far up":           {[]tarItem{item('2', "d/e/a", "../../../../etc"), textItem("d/e/a/f", "1")}, []string{". implied", "d implied", "d/e implied", "d/e/a -> ../../../../etc", "etc implied", "etc/f 1"}},
		"absolute":         {[]tarItem{item('2', "d/a", "/etc/x"), textItem("d/a/f", "1")}, []string{". implied", "d implied", "d/a -> /etc/x", "etc implied", "etc/x implied", "etc/x/f 1"}},
		"to the root":      {[]tarItem{item('2', "a", "/"), textItem("a/f", "1"), item('5', "a/d/", "")}, []string{". implied", "a -> /", "d dir", "f 1"}},
		"chained":          {[]tarItem{item('2', "a", "b/c"), item('2', "b", "d"), item('5', "d/c/", ""), textItem("a/f", "1")}, []string{". implied", "a -> b/c", "b -> d", "d implied", "d/c dir", "d/c/f 1"}},
		"of a hard link":   {[]tarItem{item('5', "d/", ""), item('2', "a", "d"), textItem("d/f", "1"), item('1', "g", "a/f")}, []string{". implied", "a -> d", "d dir", "d/f 1 x2", "g 1 x2"}},
		"replaced":         {[]tarItem{item('2', "a", "d"), textItem("a/f", "1"), item('5', "a/", ""), textItem("a/f", "2")}, []string{". implied", "a dir", "a/f 2", "d implied", "d/f 1"}},
		"pointed anew":     {[]tarItem{item('2', "a", "d"), textItem("a/f", "1"), item('2', "a", "e"), textItem("a/f", "2")}, []string{". implied", "a -> e", "d implied", "d/f 1", "e implied", "e/f 2"}},
		"40 links":         {chain, chained},
		"root is a file":   {[]tarItem{textItem("", "content of nothing"), textItem("f", "1")}, []string{". implied", "f 1"}},
		"root is a link":   {[]tarItem{item('2', ".", "/etc"), textItem("f", "1")}, []string{". implied", "f 1"}},
		"root has a mode":  {[]tarItem{item('5', "./", ""), textItem("f", "1")}, []string{". implied", "f 1"}},
		"root has no name": {[]tarItem{item('5', "/", ""), textItem("f", "1")}, []string{". implied", "f 1"}},
	} {
		t.Run(what, func(t *testing.T) {
			got, err := ingestArchive(t, makeTar(t, c.items...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIngestArchiveRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		items []tarItem
		want  error
		say   string
	}{
		"loop":             {[]tarItem{item('2', "a", "b"), item('2', "b", "a"), textItem("a/f", "1")}, ErrUnsafe, "more than 40 symlinks"},
		"loop on itself":   {[]tarItem{item('2', "a", "a/a"), textItem("a/f", "1")}, ErrUnsafe, "more than 40 symlinks"},
		"loop of a link":   {[]tarItem{item('2', "a", "a"), item('1', "f", "a/b")}, ErrUnsafe, "more than 40 symlinks"},
		"dots in the name": {[]tarItem{textItem("../f", "1")}, ErrUnsafe, `leaves the root`},
		"long target":      {[]tarItem{item('2', "a", strings.Repeat("x", 300)), textItem("a/f", "1")}, ErrFormat, "component"},
		"through a file":   {[]tarItem{item('2', "a", "b"), textItem("b", "1"), textItem("a/f", "1")}, ErrFormat, "is not a directory"},
		"link to nothing":  {[]tarItem{item('2', "a", "d"), item('1', "f", "a/b")}, ErrFormat, "not in the layer"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := ingestArchive(t, makeTar(t, c.items...))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("error %v; want %v, %q", err, c.want, c.say)
			}
		})
	}
}
