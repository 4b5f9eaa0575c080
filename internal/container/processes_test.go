package container

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "42 (a) b (c) S 7 42 42 34816 42 4194304 1 2 3 4 150 50 0 0 20 0 3 0 12345 1000 25 18446744073709551615\n"
	p, err := parseStat(line)
	want := Proc{Pid: 42, Parent: 7, Name: "a) b (c", State: 'S', TTY: 34816, User: 1500 * time.Millisecond, Sys: 500 * time.Millisecond,
		Start: 123450 * time.Millisecond, Memory: 25 * int64(os.Getpagesize()), Threads: 3}
	p.Args = nil
	if err != nil || p.Pid != want.Pid || p.Name != want.Name || p.Parent != want.Parent || p.TTY != want.TTY || p.User != want.User ||
		p.Sys != want.Sys || p.Start != want.Start || p.Memory != want.Memory || p.Threads != want.Threads || p.State != want.State {
		t.Errorf("%+v, %v, want %+v", p, err, want)
	}
	own, err := ReadProc(os.Getpid())
	if err != nil || own.Pid != os.Getpid() || own.Parent != os.Getppid() || own.UID != os.Geteuid() || len(own.Args) == 0 {
		t.Errorf("this process: %+v, %v", own, err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("42 (sh) S 7")
	f.Add("1 () ) (")
	f.Fuzz(func(t *testing.T, s string) { parseStat(s) })
}
