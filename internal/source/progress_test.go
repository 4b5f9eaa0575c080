package source

import (
	"fmt"
	"strings"
	"testing"
)

func TestProgress(t *testing.T) {
	files := map[string]string{"big": strings.Repeat("x", 40<<20)}
	for i := range 5000 {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = "small"
	}
	root := makeTree(t, files)
	var got []Progress
	tree := open(t, root, DirOptions{Progress: func(p Progress) { got = append(got, p) }})
	sum(t, tree, ".")
	const bytes = 40<<20 + 5000*5
	if len(got) < 4 || len(got) > 50 {
		t.Errorf("%d reports", len(got))
	}
	for i, p := range got {
		if p.TotalFiles != 5001 || p.TotalBytes != bytes || p.Done != (i == len(got)-1) {
			t.Errorf("report %d is %+v", i, p)
		}
		if i > 0 && (p.Files < got[i-1].Files || p.Bytes < got[i-1].Bytes) {
			t.Errorf("report %d goes back: %+v", i, p)
		}
	}
	if last := got[len(got)-1]; last.Files != 5001 || last.Bytes != bytes {
		t.Errorf("the last report is %+v", last)
	}
	got = nil
	sum(t, tree, ".")
	if len(got) != 0 {
		t.Errorf("nothing was hashed, and told of: %+v", got)
	}
}
