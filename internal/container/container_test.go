package container

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nacre/internal/registry/store"
)

func lockDir(t *testing.T, dir string) *Lock {
	t.Helper()
	f, err := store.LockContainer(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &Lock{f}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"web": true, "w1": true, "a_b.c-d": true, "9a": true, "": false, "a": false, "_a": false, ".a": false, "a b": false, "a/b": false, "ä1": false,
	} {
		if ValidName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	for range 1000 {
		if n := randomName(0); !ValidName(n) || strings.Count(n, "_") != 1 {
			t.Fatalf("%q", n)
		}
	}
	if n := randomName(5); !ValidName(n) {
		t.Errorf("%q", n)
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"TERM": 15, "SIGTERM": 15, "sigterm": 15, "15": 15, "9": 9, "HUP": 1, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63, "64": 64,
	} {
		if got, err := ParseSignal(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "65", "-1", "NOPE", "RTMIN+40", "RTMIN-1", "SIG"} {
		if got, err := ParseSignal(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	for text, want := range map[string]string{
		"": "", DefaultDetachKeys: "\x10\x11", "a": "a", "ctrl-a,b": "\x01b", "ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_": "\x00\x1b\x1c\x1d\x1e\x1f", ",": ",",
	} {
		if got, err := ParseDetachKeys(text); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"ctrl-", "ctrl-A", "ctrl-1", "ab", "shift-a"} {
		if got, err := ParseDetachKeys(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
	for _, c := range []struct {
		chunks []string
		out    string
		found  bool
	}{
		{[]string{"abc"}, "abc", false},
		{[]string{"a\x10", "b"}, "a\x10b", false},
		{[]string{"a\x10\x11b"}, "a", true},
		{[]string{"\x10", "\x11"}, "", true},
		{[]string{"\x10\x10\x11"}, "\x10", true},
		{[]string{"\x11\x10"}, "\x11", false},
	} {
		k := keyFilter{keys: []byte("\x10\x11")}
		var out []byte
		found := false
		for _, s := range c.chunks {
			data, f := k.pass([]byte(s))
			out, found = append(out, data...), found || f
		}
		if string(out) != c.out || found != c.found {
			t.Errorf("%q: %q, %v", c.chunks, out, found)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{}
	var got []time.Duration
	for range 4 {
		got = append(got, b.next(time.Second))
	}
	if got[0] != 100*time.Millisecond || got[1] != 200*time.Millisecond || got[3] != 800*time.Millisecond {
		t.Error(got)
	}
	for range 20 {
		b.next(0)
	}
	if d := b.next(0); d != time.Minute {
		t.Error(d)
	}
	if d := b.next(10 * time.Second); d != 100*time.Millisecond {
		t.Error(d)
	}
}

func TestHealthAfter(t *testing.T) {
	h := &Health{Retries: 2}
	s := &HealthState{Status: HealthStarting}
	for i, c := range []struct {
		code     int
		starting bool
		status   string
		failing  int
	}{
		{1, true, HealthStarting, 0}, {0, true, HealthHealthy, 0}, {1, true, HealthHealthy, 1}, {1, false, HealthUnhealthy, 2}, {0, false, HealthHealthy, 0},
		{-1, false, HealthHealthy, 1},
	} {
		s = s.after(HealthCheck{ExitCode: c.code}, h, c.starting)
		if s.Status != c.status || s.Failing != c.failing {
			t.Errorf("%d: %s, %d, want %s, %d", i, s.Status, s.Failing, c.status, c.failing)
		}
	}
	if len(s.Log) != healthLog || s.Log[4].ExitCode != -1 {
		t.Errorf("log %v", s.Log)
	}
}

func TestLostMonitor(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	st := State{Status: StatusRunning, Pid: 1, Monitor: 2, Boot: bootID(), Started: time.Now()}
	if err := writeState(dir, st); err != nil {
		t.Fatal(err)
	}
	lock := lockDir(t, dir)
	if got, err := loadState(dir); err != nil || got.Status != StatusRunning {
		t.Errorf("with a monitor: %+v, %v", got, err)
	}
	lock.Unlock()
	got, err := loadState(dir)
	if err != nil || got.Status != StatusExited || got.ExitCode != 137 || got.Error != errMonitorDied || got.Pid != 0 || got.Finished.IsZero() {
		t.Errorf("without: %+v, %v", got, err)
	}
	if again, err := readState(dir); err != nil || !again.Finished.Equal(got.Finished) {
		t.Errorf("it was not written down: %+v, %v", again, err)
	}
	st.Boot = "another"
	writeState(dir, st)
	if got, err := loadState(dir); err != nil || got.ExitCode != 255 || got.Error != errReboot {
		t.Errorf("after a reboot: %+v, %v", got, err)
	}
}

func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	writeMessage(&b, frameRequest, request{Op: opStop, Signal: 15})
	f.Add(b.Bytes())
	f.Add([]byte{'o', 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{'o', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			kind, p, err := readFrame(r, nil)
			if err != nil {
				return
			}
			var out bytes.Buffer
			writeFrame(&out, kind, p)
			again, q, err := readFrame(&out, nil)
			if err != nil || again != kind || !bytes.Equal(p, q) {
				t.Errorf("%c %q became %c %q (%v)", kind, p, again, q, err)
			}
		}
	})
}

// TestViewerFast sends more than the queue holds.
func TestViewerFast(t *testing.T) {
	var o output
	out := o.stream("stdout", nil)
	client, server := pipeConns(t)
	v := newViewer(server, request{Stdout: true})
	o.attach(v)
	read := make(chan int)
	go func() {
		total := 0
		var buf []byte
		for {
			kind, p, err := readFrame(client, buf)
			if err == io.EOF || kind == frameReply {
				read <- total
				return
			}
			if err != nil {
				t.Error(err)
				read <- total
				return
			}
			total += len(p)
		}
	}()
	data := make([]byte, 100_000)
	for range 50 {
		if n, err := out.Write(data); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
	}
	v.finish(&reply{Exited: true})
	if n := <-read; n != 50*len(data) {
		t.Errorf("%d bytes arrived of %d", n, 50*len(data))
	}
	v.drop()
	// Who is gone is forgotten.
	client.Close()
	out.Write(data)
	if len(o.all()) != 0 {
		t.Error("a viewer that is gone is still attached")
	}
}

func TestConfigJSON(t *testing.T) {
	data, err := json.Marshal(Config{Image: "web", Command: []string{"sh"}})
	if err != nil || string(data) != `{"image":"web","imageID":"","target":"","command":["sh"]}` {
		t.Errorf("%s, %v", data, err)
	}
}

// pipeConns are the two ends of a connection.
func pipeConns(t *testing.T) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}
