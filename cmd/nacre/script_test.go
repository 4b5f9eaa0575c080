package main

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nacre/internal/container"
	"nacre/internal/sandbox"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	sandbox.Init() // a container is this program again, under another name
	container.Init()
	testscript.Main(m, map[string]func(){"nacre": main, runtimeName: main})
}

// TestScripts runs testdata/script: one file for one behaviour of one command, as
// README.md there says.
func TestScripts(t *testing.T) {
	p := scriptParams()
	p.Dir = filepath.Join("testdata", "script")
	testscript.Run(t, p)
}

// heedHangups gives what is run from here the signals as from a terminal, where this process was told to ignore them (nohup, a
// shell's "&"): what is ignored stays so in children, what is caught does not.
func heedHangups() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// scriptParams are how scripts are run.
func scriptParams() testscript.Params {
	heedHangups()
	commands := servers()
	commands["busybox"], commands["tarball"], commands["age"], commands["multi"] = importBusybox, makeTar, ageCache, multiImage
	return testscript.Params{
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("NACRE_ROOT", filepath.Join(e.WorkDir, ".nacre"))
			e.Setenv("NO_COLOR", "1")
			e.Defer(func() { killScript(e.WorkDir) })
			return nil
		},
		Cmds: commands,
	}
}

// killScript ends what a script left running, its monitors above all: all that have its working directory in their
// environment, as whatever it started has. Containers end with their monitors.
func killScript(work string) {
	mark := []byte("WORK=" + work + "\x00")
	for range 500 { // 5 s
		left := false
		environs, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, name := range environs {
			env, err := os.ReadFile(name)
			if err != nil || !bytes.HasPrefix(env, mark) && !bytes.Contains(env, append([]byte{0}, mark...)) {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil && pid != os.Getpid() {
				left = true
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !left {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// importBusybox gives the script's store the image busybox.
func importBusybox(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: busybox")
	}
	tar, err := busyboxTar()
	ts.Check(err)
	ts.Check(ts.Exec("nacre", "import", "-c", "ENV PATH=/usr/bin:/bin", "-c", `CMD ["sh"]`, tar, "busybox"))
}

// busyboxTar is the root file system of busybox that scripts/setup makes.
var busyboxTar = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("../../scripts/setup", "busybox")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		os.Stderr.Write(stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), err
})

// makeTar is "tarball FILE DIR [FLAGS]": a folder as a tar archive.
func makeTar(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tarball FILE DIR [FLAG...]")
	}
	ts.Check(ts.Exec("tar", append([]string{"-cf", ts.MkAbs(args[0]), "-C", ts.MkAbs(args[1])}, append(args[2:], ".")...)...))
}
