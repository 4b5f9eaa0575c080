package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Runtime runs one container by an installed OCI runtime, by the command line that runc, crun and runsc have in common. It is
// called for each thing that is to be done, and leaves no process of its own behind: the container's processes
// become ours, as we are the nearest who reaps orphans.
type Runtime struct {
	Path string // of the program
	// Dir is a directory of this container's own, for what the runtime keeps of it. It is made when needed, and removed at
	// the container's end; see CleanRuntime for what is left where there was none.
	Dir string
	ID  string // of the container
}

// administrators are where runtimes are installed that an ordinary user's PATH may lack.
var administrators = [...]string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// FindRuntime is the path of a runtime by its name, or by its path.
func FindRuntime(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && !strings.Contains(name, "/") {
		for _, dir := range administrators {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	switch {
	case err == nil:
		return filepath.Abs(path)
	case strings.Contains(name, "/"):
		if path := (*fs.PathError)(nil); errors.As(err, &path) {
			err = path.Err
		}
		return "", fmt.Errorf("OCI runtime %s: %w", name, err)
	}
	return "", fmt.Errorf("OCI runtime %s: %w", name, ErrNoRuntime)
}

// ErrNoRuntime: there is no such program.
var ErrNoRuntime = errors.New("it is not installed: nothing of that name is in PATH")

// Names in Runtime.Dir.
const (
	runtimeRecord  = "container.json" // the Runtime itself
	runtimeState   = "state"          // what the runtime keeps
	runtimeLog     = "log"
	runtimePid     = "pid"
	runtimeConsole = "console"
)

// prepare makes the directory, after what an earlier run may have left there.
func (rt Runtime) prepare(ctx context.Context) error {
	if err := CleanRuntime(ctx, rt.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(rt.Dir, runtimeState), 0o700); err != nil {
		return err
	}
	record, err := json.Marshal(rt)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(rt.Dir, runtimeRecord), record, 0o600)
}

// CleanRuntime removes the container that a Runtime with this Dir left when the process that ran it was killed.
func CleanRuntime(ctx context.Context, dir string) error {
	record, err := os.ReadFile(filepath.Join(dir, runtimeRecord))
	if errors.Is(err, os.ErrNotExist) {
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	var rt Runtime
	if json.Unmarshal(record, &rt) == nil && rt.Path != "" {
		rt.Dir = dir // the store may have been moved
		rt.delete(ctx)
	}
	return os.RemoveAll(dir)
}

// delete ends the container and has the runtime forget it. It may have done so already.
func (rt Runtime) delete(ctx context.Context) error {
	return rt.call(context.WithoutCancel(ctx), "delete", "--force", rt.ID)
}

// Signal sends a signal to the container's first process.
func (rt Runtime) Signal(ctx context.Context, sig syscall.Signal) error {
	return rt.call(ctx, "kill", rt.ID, fmt.Sprint(int(sig)))
}

// Pause lets the container's processes stand still.
func (rt Runtime) Pause(ctx context.Context) error { return rt.call(ctx, "pause", rt.ID) }

// Resume is the end of Pause.
func (rt Runtime) Resume(ctx context.Context) error { return rt.call(ctx, "resume", rt.ID) }

// call runs the runtime for something that takes no streams.
func (rt Runtime) call(ctx context.Context, args ...string) error {
	return besides(func() error { return rt.run(ctx, [3]*os.File{}, args...) })
}

// run runs the runtime, here and now: the thread may have mounts of its own. Without streams what the runtime says besides
// its log is in the error.
func (rt Runtime) run(ctx context.Context, streams [3]*os.File, args ...string) error {
	out, err := os.CreateTemp(rt.Dir, runtimeLog+"-*") // calls may be made at the same time
	if err != nil {
		return err
	}
	log := out.Name()
	out.Close()
	defer os.Remove(log)
	flags := []string{"--root", filepath.Join(rt.Dir, runtimeState), "--log", log, "--log-format", "json"}
	if rt.isGvisor() {
		flags = append(flags, gvisorFlags[:]...)
	}
	cmd := exec.CommandContext(ctx, rt.Path, append(flags, args...)...)
	cmd.Env, cmd.Dir = runtimeEnv(), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what is typed to stop us is not for it
	said := &lastBytes{}
	if streams[0] == nil {
		cmd.Stdout, cmd.Stderr = said, said
	} else {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = streams[0], streams[1], streams[2]
	}
	err = cmd.Run()
	if err == nil || ctx.Err() != nil {
		return err
	}
	text := lastError(log)
	if text == "" {
		text = strings.TrimSpace(string(said.data))
	}
	if text == "" {
		text = err.Error()
	}
	return &runtimeError{filepath.Base(rt.Path), args[0], text}
}

// runtimeEnv is our environment, and what tells runtimes that a user namespace was made for them.
func runtimeEnv() []string {
	env := os.Environ()
	if inUserns() {
		env = append(env, "_CONTAINERS_USERNS_CONFIGURED=done", fmt.Sprintf("_CONTAINERS_ROOTLESS_UID=%d", userOutside()))
	}
	return env
}

// runtimeError is what a runtime said when it failed.
type runtimeError struct{ name, verb, text string }

func (e *runtimeError) Error() string { return fmt.Sprintf("%s %s: %s", e.name, e.verb, e.text) }

// code is docker's exit code, found as docker finds it: by what runtimes say.
func (e *runtimeError) code() int {
	text := strings.ToLower(e.text)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case !has("exec: ", "executable", "chdir", "failed to load "): // the last is runsc's
		return CodeSandbox
	case has("not found", "no such file or directory"):
		return CodeNotFound
	case has("permission denied", "not permitted", "is a directory", "not a directory", "format error"):
		return CodeNotExecutable
	}
	return CodeSandbox
}

// lastError is the last error of a runtime's log, a line of JSON each.
func lastError(log string) (text string) {
	data, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg != "" && (entry.Level == "error" || entry.Level == "fatal") {
			text = entry.Msg
		}
	}
	return text
}

// runtimeFailed is an error of a runtime as that of a start of a program.
func runtimeFailed(err error, args []string) error {
	var e *runtimeError
	if !errors.As(err, &e) {
		return fail("start container", err)
	}
	op, code := e.name+" "+e.verb, e.code()
	if code != CodeSandbox && len(args) > 0 {
		op = fmt.Sprintf("exec %q: %s", args[0], e.name)
	}
	return &StartError{Code: code, Op: op, Err: errors.New(e.text)}
}

// reapOrphans makes processes ours whose parents have ended, if the parents were.
func reapOrphans() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}
