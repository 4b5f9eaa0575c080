package container

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func writeLog(t *testing.T, dir string, c LogConfig, chunks ...string) {
	t.Helper()
	w := newLogWriter(dir, c, func(err error) { t.Error(err) })
	for i, s := range chunks {
		w.write([]string{"stdout", "stderr"}[i%2], []byte(s))
	}
	w.close()
}

func readLog(t *testing.T, dir string, o LogOptions) (out string) {
	t.Helper()
	c := &Container{dir: dir}
	if err := c.Logs(t.Context(), o, func(l LogLine) error { out += l.Stream[3:4] + ":" + string(l.Data); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLogRoundTrip(t *testing.T) {
	long := strings.Repeat("é", 20_000) // cut between characters, wherever that is
	for name, c := range map[string]struct{ in, out string }{
		"lines":    {"a\nb\n", "o:a\no:b\n"},
		"no end":   {"a\nb", "o:a\no:b"},
		"empty":    {"", ""},
		"bytes":    {"\xff\x00\xfe\n", "o:\xff\x00\xfe\n"},
		"markup":   {"<&>\"\\\u2028\n", "o:<&>\"\\\u2028\n"},
		"newlines": {"\n\n\n", "o:\no:\no:\n"},
	} {
		dir := t.TempDir()
		writeLog(t, dir, LogConfig{}, c.in)
		if got := readLog(t, dir, LogOptions{Tail: -1}); got != c.out {
			t.Errorf("%s: %q, want %q", name, got, c.out)
		}
	}
	dir := t.TempDir()
	writeLog(t, dir, LogConfig{}, long)
	if got := strings.ReplaceAll(readLog(t, dir, LogOptions{Tail: -1}), "o:", ""); got != long {
		t.Errorf("long line: %d bytes came back of %d", len(got), len(long))
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "log")); bytes.Contains(data, []byte(`"raw"`)) {
		t.Error("a character was cut in two")
	}
}

func TestLogTail(t *testing.T) {
	dir := t.TempDir()
	var all []string
	var in strings.Builder
	for i := range 500 {
		fmt.Fprintf(&in, "line %d\n", i)
		all = append(all, fmt.Sprintf("o:line %d\n", i))
	}
	writeLog(t, dir, LogConfig{MaxSize: 8 << 10, MaxFiles: 10}, in.String())
	if _, err := os.Stat(filepath.Join(dir, "log.3")); err != nil {
		t.Fatal("it was not rotated: ", err)
	}
	for _, n := range []int{0, 1, 2, 100, 499, 500, 501, 5000} {
		want := strings.Join(all[max(0, len(all)-n):], "")
		if got := readLog(t, dir, LogOptions{Tail: n}); got != want {
			t.Errorf("tail %d: %d bytes, want %d", n, len(got), len(want))
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "log*"))
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 8<<10 {
			t.Errorf("%s: %v, %v", f, st, err)
		}
	}
}

// TestLogTorn goes on with a log whose writer was killed in the middle of a line.
func TestLogTorn(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, LogConfig{}, "one\ntwo\n")
	name := filepath.Join(dir, "log")
	st, _ := os.Stat(name)
	if err := os.Truncate(name, st.Size()-5); err != nil {
		t.Fatal(err)
	}
	writeLog(t, dir, LogConfig{}, "three\n")
	if got := readLog(t, dir, LogOptions{Tail: -1}); got != "o:one\no:three\n" {
		t.Errorf("%q", got)
	}
}

// TestLogFull fills the disk: output is lost, and said to be, and nothing else.
func TestLogFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", logSpares+256<<10)); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	var faults []error
	w := newLogWriter(dir, LogConfig{MaxSize: -1}, func(err error) { faults = append(faults, err) })
	line := []byte(strings.Repeat("x", 1000) + "\n")
	for range 500 {
		w.write("stdout", line)
	}
	if len(faults) != 1 || w.dropped == 0 {
		t.Errorf("faults %v, %d dropped", faults, w.dropped)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || int64(st.Bavail)*st.Bsize < logSpares {
		t.Errorf("%d blocks of %d bytes are left, %v", st.Bavail, st.Bsize, err)
	}
	// As soon as there is room it goes on, and says what is missing.
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprint("size=", 2*logSpares)); err != nil {
		t.Fatal(err)
	}
	dropped := w.dropped
	w.write("stdout", []byte("after\n"))
	w.close()
	got := readLog(t, dir, LogOptions{Tail: 2})
	if want := fmt.Sprintf("e:nacre: %d lines of output are missing here: the log could not be written\no:after\n", dropped); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if len(faults) != 2 || faults[1] != nil {
		t.Errorf("faults %v", faults)
	}
}

// TestLogFollow follows a log that is written and rotated meanwhile.
func TestLogFollow(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock := lockDir(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan string)
	go func() {
		var out strings.Builder
		c := &Container{dir: dir}
		if err := c.Logs(ctx, LogOptions{Follow: true, Tail: -1}, func(l LogLine) error { out.Write(l.Data); return nil }); err != nil {
			t.Error(err)
		}
		got <- out.String()
	}()
	w := newLogWriter(dir, LogConfig{MaxSize: 4 << 10, MaxFiles: 100}, func(err error) { t.Error(err) })
	var want strings.Builder
	for i := range 300 {
		text := fmt.Sprintf("line %d\n", i)
		want.WriteString(text)
		w.write("stdout", []byte(text))
	}
	w.close()
	lock.Unlock()
	if text := <-got; text != want.String() {
		t.Errorf("%d bytes, want %d", len(text), want.Len())
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"log":"a","raw":"/w==","stream":"stderr"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &logReader{emit: func(LogLine) error { return nil }}
		if err := r.line(data); err != nil {
			t.Error(err)
		}
	})
}
