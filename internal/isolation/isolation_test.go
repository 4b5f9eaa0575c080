package isolation

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// scriptArg as the first argument makes the test binary become a script.
const scriptArg = "nacre-isolation-script"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == scriptArg {
		fmt.Fprintln(os.Stderr, testScript().become("test"))
		os.Exit(99)
	}
	os.Exit(m.Run())
}

// testScript makes a file, whose descriptor it has to find out, writes to it and to standard output, fails to close
// what is not open, and ends with 7.
func testScript() *script {
	s := &script{}
	end := s.add(call{nr: unix.SYS_GETPID, min: 1 << 40, fail: callAddr(3)})
	s.add(call{nr: unix.SYS_WRITE, args: [6]uintptr{1, s.text("failed\n"), 7}})
	s.add(call{nr: unix.SYS_EXIT_GROUP, args: [6]uintptr{7}})
	open := s.add(call{nr: unix.SYS_OPENAT, args: [6]uintptr{cwd, s.text(os.Args[2]), unix.O_WRONLY | unix.O_CREAT, 0o600}})
	write := s.add(call{nr: unix.SYS_WRITE, args: [6]uintptr{0, s.text("text"), 4}, min: 4, fail: callAddr(end)})
	s.calls[open].store = argAddr(write, 0)
	s.add(call{nr: unix.SYS_CLOSE, args: [6]uintptr{4242}, fail: callAddr(1)})
	s.add(call{nr: unix.SYS_EXIT_GROUP, args: [6]uintptr{8}})
	return s
}

func TestScript(t *testing.T) {
	file := t.TempDir() + "/file"
	out, err := exec.Command("/proc/self/exe", scriptArg, file).Output()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 7 || string(out) != "failed\n" {
		t.Errorf("%v, printed %q", err, out)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "text" {
		t.Errorf("%v: %q was written", err, text)
	}
}

func TestScriptTooLong(t *testing.T) {
	s := &script{}
	for range maxCalls + 1 {
		s.add(call{})
	}
	if _, err := s.image(); err != errScript {
		t.Errorf("%v, wanted %v", err, errScript)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]Kind{"": Auto, "auto": Auto, "default": Auto, "root": Root, "userns": Userns, "single": Single, "chroot": Chroot, "none": None} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"Auto", "vm", " "} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), "want auto, ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSubIDs(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Range
	}{
		{"", nil},
		{"ann:100000:65536\nbob:200000:65536\n", []Range{{100000, 65536}}},
		{"1000:5:6\nann:7:8\n", []Range{{5, 6}, {7, 8}}},
		{"# ann:1:2\n ann:3:4 \nann:5\nann:6:0\nann:x:1\nann:1:-1\nann:4294967295:2\n:1:1\n", []Range{{3, 4}}},
	} {
		got, err := parseSubIDs(strings.NewReader(c.text), "1000", "ann")
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v, %v, wanted %v", c.text, got, err, c.want)
		}
	}
	if got, err := parseSubIDs(strings.NewReader(":1:1\n"), "1000", ""); err != nil || got != nil {
		t.Errorf("a user without a name owns %v, %v", got, err)
	}
}

func TestMaps(t *testing.T) {
	m, err := parseMap("         0       1000          1\n         1     100000      65536\n")
	if want := []Mapping{{0, 1000, 1}, {1, 100000, 65536}}; err != nil || !reflect.DeepEqual(m, want) {
		t.Fatalf("%v, %v, wanted %v", m, err, want)
	}
	for r, want := range map[Range]bool{{0, 1}: true, {0, 2}: false, {1, 65536}: true, {2, 65536}: false, {1 << 31, 1 << 31}: false} {
		if covers(m, r) != want {
			t.Errorf("%v: %t is wanted", r, want)
		}
	}
	for _, text := range []string{"1 2\n", "a b c\n", "1 2 3 4\n", "-1 0 1\n"} {
		if m, err := parseMap(text); err == nil {
			t.Errorf("%q: %v", text, m)
		}
	}
}

func FuzzSubIDs(f *testing.F) {
	f.Add("ann:100000:65536\n# x\n1000:1:1\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, _ := parseSubIDs(strings.NewReader(text), "1000", "ann")
		var again strings.Builder
		for _, r := range list {
			fmt.Fprintf(&again, "ann:%s\n", r)
		}
		if got, err := parseSubIDs(strings.NewReader(again.String()), "1000", "ann"); err != nil || !reflect.DeepEqual(got, list) {
			t.Errorf("%v, %v, wanted %v", got, err, list)
		}
	})
}

func FuzzMap(f *testing.F) {
	f.Add("0 1000 1\n1 100000 65536\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseMap(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, m := range list {
			fmt.Fprintln(&again, m.Inside, m.Outside, m.Count)
		}
		if got, err := parseMap(again.String()); err != nil || !reflect.DeepEqual(got, list) {
			t.Errorf("%v, %v, wanted %v", got, err, list)
		}
	})
}
