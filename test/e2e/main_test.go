// Package e2e runs the built program the way its users do: by its command line, on
// real input, beside the tools it has to get along with. The tests run as root; the
// one about ordinary users becomes one.
package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nacre is the program under test, built by TestMain from this checkout.
var nacre string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == confineArg {
		confine(os.Args[2:])
	}
	heedHangups()
	os.Exit(runTests(m))
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

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nacre-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)     // an ordinary user runs the program from here
	os.Setenv("TMPDIR", dir) // all stores are below it, so that what they leave mounted is found
	nacre = filepath.Join(dir, "nacre")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", nacre, "nacre/cmd/nacre")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if os.Getenv("NACRE_RACE") != "" { // what races says so on standard error, and exits with 66
		build = exec.Command("go", "build", "-race", "-o", nacre, "nacre/cmd/nacre")
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building nacre: %v\n%s", err, out)
		return 1
	}
	before := mounts(dir)
	races := filepath.Join(dir, "races") // of all that run, whatever their standard error is
	os.Mkdir(races, 0o777)
	os.Chmod(races, 0o777)
	os.Setenv("GORACE", "log_path="+filepath.Join(races, "race"))
	code := m.Run()
	if left := readAll(races); left != "" {
		fmt.Fprintf(os.Stderr, "FAIL: data races:\n%s", left)
		code = 1
	}
	shared.close()
	if left := mounts(dir); len(left) > len(before) {
		fmt.Fprintf(os.Stderr, "FAIL: mounts are left behind:\n%s\n", strings.Join(left, "\n"))
		code = 1
	}
	if left := processes(nacre); len(left) > 0 {
		defer killAll(nacre)
		fmt.Fprintf(os.Stderr, "FAIL: processes are left behind:\n%s\n", strings.Join(left, "\n"))
		code = 1
	}
	return code
}

// readAll is what is in the files of a folder.
func readAll(dir string) (all string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range files {
		data, _ := os.ReadFile(name)
		all += string(data)
	}
	return all
}

// mounts are the lines of this process's mount table that have to do with dir: what is
// mounted there, or comes from there.
func mounts(dir string) []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, dir) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// processes are those whose executable or command line mentions text. Zombies are
// found by their parent being one of ours; here only the living are looked at.
func processes(text string) []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if filepath.Base(dir) == fmt.Sprint(os.Getpid()) {
			continue
		}
		exe, _ := os.Readlink(dir + "/exe")
		cmd, _ := os.ReadFile(dir + "/cmdline")
		if strings.Contains(exe, text) || bytes.Contains(cmd, []byte(text)) {
			found = append(found, filepath.Base(dir)+" "+string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// A store is a root directory of nacre, and how to run nacre on it.
type store struct {
	root string
	wrap []string // what the command line begins with before nacre's own path
	env  []string
}

// newStore returns an empty store that goes away with the test.
func newStore(t testing.TB) *store {
	t.Helper()
	dir, err := os.MkdirTemp("", "nacre-root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killAll(dir)
		os.RemoveAll(dir)
	})
	return &store{root: filepath.Join(dir, "root")}
}

// newBusybox returns a store that has the image busybox.
func newBusybox(t testing.TB) *store {
	t.Helper()
	s := newStore(t)
	s.importBase(t, "busybox", `CMD ["sh"]`)
	return s
}

const path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// importBase imports a base made by scripts/setup under its own name.
func (s *store) importBase(t testing.TB, name string, changes ...string) {
	t.Helper()
	args := []string{"import", "--change", path}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	s.ok(t, append(args, baseTar(t, name), name)...)
}

var baseTars sync.Map // name → func() (string, error)

// baseTar returns the path of a root file system made by scripts/setup.
func baseTar(t testing.TB, name string) string {
	t.Helper()
	get, _ := baseTars.LoadOrStore(name, sync.OnceValues(func() (string, error) {
		cmd := exec.Command("../../scripts/setup", name)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("scripts/setup %s: %w\n%s", name, err, &stderr)
		}
		return strings.TrimSpace(string(out)), nil
	}))
	tar, err := get.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return tar
}

// result is what a command did.
type result struct {
	args           []string
	code, pid      int
	stdout, stderr string
	took           time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("nacre %s: exit code %d after %v\n--- stdout\n%s--- stderr\n%s",
		strings.Join(r.args, " "), r.code, r.took.Round(time.Millisecond), r.stdout, r.stderr)
}

// cmd is nacre with its root and arguments, not yet started.
func (s *store) cmd(args ...string) *exec.Cmd {
	argv := append(append([]string{}, s.wrap...), nacre, "--root", s.root)
	argv = append(argv, args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.WaitDelay = time.Minute // hundreds at once on a small machine take their time
	return cmd
}

// run runs nacre and returns what it did; it fails the test only where the program could not be run.
func (s *store) run(t testing.TB, args ...string) result {
	t.Helper()
	return s.runIn(t, "", args...)
}

// crash is how a Go program ends that was not written to end so.
var crash = regexp.MustCompile(`(?m)^(panic|fatal error|runtime): .*(\n.*){0,4}\n(goroutine \d+|runtime stack:)`)

// runIn is run with standard input.
func (s *store) runIn(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	cmd := s.cmd(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	if exited := new(exec.ExitError); err != nil && !errors.As(err, &exited) {
		t.Fatalf("nacre %s: %v", strings.Join(args, " "), err)
	}
	r := result{args, cmd.ProcessState.ExitCode(), cmd.ProcessState.Pid(), stdout.String(), stderr.String(), time.Since(begin)}
	if crash.MatchString(r.stderr) {
		t.Fatalf("it crashed: %v", r)
	}
	return r
}

// ok runs nacre, which must succeed, and returns its standard output without the last newline.
func (s *store) ok(t testing.TB, args ...string) string {
	t.Helper()
	r := s.run(t, args...)
	if r.code != 0 {
		t.Fatal(r)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// fails runs nacre, which must exit with code and say each of want on standard error.
func (s *store) fails(t testing.TB, code int, want []string, args ...string) string {
	t.Helper()
	r := s.run(t, args...)
	if r.code != code {
		t.Errorf("exit code %d is wanted: %v", code, r)
	}
	for _, w := range want {
		if !regexp.MustCompile(w).MatchString(r.stderr) {
			t.Errorf("standard error has no match for %q: %v", w, r)
		}
	}
	return r.stderr
}

// check lets nacre verify its whole store.
func (s *store) check(t testing.TB) {
	t.Helper()
	if r := s.run(t, "system", "check"); r.code != 0 {
		t.Fatal(r)
	}
}

// inspect returns one field of an image by a Go template.
func (s *store) inspect(t testing.TB, image, template string) string {
	t.Helper()
	return s.ok(t, "inspect", "-f", template, image)
}

// build builds dir as tag and returns what became of the steps.
func (s *store) build(t testing.TB, tag, dir string, args ...string) steps {
	t.Helper()
	r := s.run(t, append(append([]string{"build", "--progress", "plain", "-t", tag}, args...), dir)...)
	if r.code != 0 {
		t.Fatal(r)
	}
	return parseSteps(r)
}

// steps says of each step shown in plain progress whether it hit the cache.
type steps struct {
	result
	cached map[string]bool // by name, as "[builder 2/4] RUN make"
}

var stepLine = regexp.MustCompile(`^#(\d+) (\[.*|CACHED|DONE .*|ERROR.*)$`)

func parseSteps(r result) steps {
	s := steps{r, map[string]bool{}}
	names := map[string]string{}
	for line := range strings.Lines(r.stderr) {
		m := stepLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		switch {
		case m == nil:
		case m[2][0] == '[':
			names[m[1]] = m[2]
		default:
			s.cached[names[m[1]]] = m[2] == "CACHED"
		}
	}
	return s
}

// hit asserts that the step whose name ends in instruction came from the cache.
func (s steps) hit(t testing.TB, instruction string) { t.Helper(); s.is(t, instruction, true) }

// ran asserts that it was executed.
func (s steps) ran(t testing.TB, instruction string) { t.Helper(); s.is(t, instruction, false) }

func (s steps) is(t testing.TB, instruction string, cached bool) {
	t.Helper()
	for name, was := range s.cached {
		if strings.HasSuffix(name, "] "+instruction) {
			if was != cached {
				t.Errorf("%s: cached is %v, wanted %v: %v", name, was, cached, s.result)
			}
			return
		}
	}
	t.Errorf("no step %q was shown: %v", instruction, s.result)
}

// writeFiles makes a directory with the given files, path → content, and returns it. A
// name ending in a slash makes a directory.
func writeFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(file, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copyDir returns a copy of a directory of testdata that the test may change.
func copyDir(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// replace changes one text in one file, which must have it.
func replace(t testing.TB, file, old, new string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%s does not have %q", file, old)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(data, []byte(old), []byte(new)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tool runs another program, which must succeed, and returns its standard output.
func tool(t testing.TB, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String())
}

// proxyArgs hands on the proxies of this machine, where it has any, as docker's users do. They may be on
// its loopback, which steps reach in its own network alone.
func proxyArgs() []string {
	args := []string{"--network=host"}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if v := os.Getenv(name); v != "" {
			args = append(args, "--build-arg", name+"="+v)
		}
	}
	return args
}
