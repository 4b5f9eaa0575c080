package watch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestValue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	now := time.Unix(1000, 0)
	var warned []error
	loads := 0
	v, err := New(func() (string, error) {
		loads++
		data, err := os.ReadFile(path)
		if string(data) == "bad" {
			err = errors.New("bad")
		}
		return string(data), err
	}, func(err error) { warned = append(warned, err) }, func() time.Time { return now }, path)
	if err != nil || v.Get() != "one" {
		t.Fatal(err, v.Get())
	}
	write("two")
	if v.Get() != "one" {
		t.Error("looked within the second")
	}
	now = now.Add(Every)
	if v.Get() != "two" {
		t.Error("a change is not seen")
	}
	write("bad")
	now = now.Add(Every)
	if v.Get() != "two" || len(warned) != 1 {
		t.Errorf("got %q, warned %v", v.Get(), warned)
	}
	now = now.Add(Every)
	if v.Get(); len(warned) != 1 || loads != 3 {
		t.Errorf("warned %d times, loaded %d times", len(warned), loads)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(Every)
	if v.Get() != "two" || len(warned) != 2 {
		t.Errorf("a missing file: got %q, warned %v", v.Get(), warned)
	}
	write("four")
	now = now.Add(-time.Hour) // a clock set back does not keep it from looking
	if v.Get() != "four" {
		t.Errorf("got %q", v.Get())
	}
}
