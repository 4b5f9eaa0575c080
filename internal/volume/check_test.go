package volume

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// A damaged volume is reported, and mended as far as its files are there.
func TestCheck(t *testing.T) {
	v := newVolumes(t)
	outside := t.TempDir()
	for _, name := range []string{"good", "torn", "users", "nodata", "link"} {
		if _, err := v.Create(t.Context(), CreateOptions{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.WriteFile(v.Mountpoint("torn")+"/file", []byte("precious"), 0o600),
		os.Truncate(v.path("torn", recordName), 5),
		os.Remove(v.path("users", usersName)),
		os.Remove(v.Mountpoint("nodata")),
		os.RemoveAll(v.path("link")), os.Symlink(outside, v.path("link")),
	); err != nil {
		t.Fatal(err)
	}
	for _, repair := range []bool{false, true} {
		list, err := v.Check(repair)
		if err != nil || len(list) != 4 {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, p := range list {
			if want := repair && (p.Name == "torn" || p.Name == "users"); p.Repaired != want || p.Text == "" {
				t.Errorf("repair %v: %+v", repair, p)
			}
		}
	}
	list, err := v.Check(false)
	if err != nil || len(list) != 2 || list[0].Name != "link" || list[1].Name != "nodata" {
		t.Errorf("after the repair: %+v, %v", list, err)
	}
	if text, err := os.ReadFile(v.Mountpoint("torn") + "/file"); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	if vol, err := v.Get("torn"); err != nil || vol.Created.IsZero() {
		t.Errorf("%+v, %v", vol, err)
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("in the link's target: %v", left)
	}
	if text := v.wrong(Volume{Name: "removed"}); text != "" {
		t.Errorf("what was removed since it was listed: %s", text)
	}
	if !strings.Contains(list[0].Text, "left alone") {
		t.Errorf("%+v", list[0])
	}
}
