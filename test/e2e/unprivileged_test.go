package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confineArg as the first argument makes the test binary give up everything and become
// the program named by the others: an ordinary user who may not make a namespace, as
// in a CI container.
const (
	confineArg = "nacre-e2e-confine"
	ordinary   = 12345 // a user id nobody has
)

func confine(argv []string) {
	runtime.LockOSThread() // a filter belongs to a thread, and exec keeps that of its caller
	for _, err := range []error{
		syscall.Setgroups(nil),
		syscall.Setresgid(ordinary, ordinary, ordinary),
		syscall.Setresuid(ordinary, ordinary, ordinary),
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
		denyNamespaces(),
	} {
		if err != nil {
			fmt.Fprintln(os.Stderr, "confine:", err)
			os.Exit(99)
		}
	}
	err := syscall.Exec(argv[0], argv, os.Environ())
	fmt.Fprintln(os.Stderr, "confine:", argv[0], err)
	os.Exit(99)
}

// denyNamespaces installs a seccomp filter under which every call that makes, enters or
// changes a namespace fails.
func denyNamespaces() error {
	const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
		unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	deny := unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	jump := func(code uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: code, Jt: yes, Jf: no, K: k}
	}
	prog := []unix.SockFilter{stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0)} // the call's number
	for _, nr := range []uint32{
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
		unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR,
	} {
		prog = append(prog, jump(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, nr, 0, 1), stmt(unix.BPF_RET|unix.BPF_K, deny))
	}
	prog = append(prog,
		// clone3 hides its flags behind a pointer; without it the C library uses clone.
		jump(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.SYS_CLONE3, 0, 1),
		stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
		jump(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.SYS_CLONE, 0, 3),
		stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 16), // the low half of its flags
		jump(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, newNamespaces, 0, 1),
		stmt(unix.BPF_RET|unix.BPF_K, deny),
		stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW),
	)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// newConfined returns an empty store whose nacre runs as an ordinary user without
// namespaces, and a folder that user owns.
func newConfined(t testing.TB) (s *store, home string) {
	t.Helper()
	home, err := os.MkdirTemp("", "nacre-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	// The test binary itself lies where only root may look.
	self := filepath.Join(home, "confine")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "cp", exe, self)
	if err := os.Chown(home, ordinary, ordinary); err != nil {
		t.Fatal(err)
	}
	return &store{
		root: filepath.Join(home, "root"),
		wrap: []string{self, confineArg},
		env:  []string{"HOME=" + home, "XDG_DATA_HOME=", "TMPDIR=" + home},
	}, home
}

func TestUnprivileged(t *testing.T) {
	t.Parallel()
	s, home := newConfined(t)
	confined := func(argv ...string) (string, error) {
		out, err := exec.Command(s.wrap[0], append([]string{confineArg}, argv...)...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	// First that the cage is one: neither root, nor a way to become it.
	if out, err := confined("/usr/bin/id", "-u"); err != nil || out != strconv.Itoa(ordinary) {
		t.Fatalf("id: %s, %v", out, err)
	}
	for _, flag := range []string{"--user", "--mount", "--net"} {
		if out, err := confined("/usr/bin/unshare", flag, "/bin/true"); err == nil || !strings.Contains(out, "not permitted") {
			t.Fatalf("unshare %s is possible: %s, %v", flag, out, err)
		}
	}

	ctx := filepath.Join(home, "ctx")
	if err := os.CopyFS(ctx, os.DirFS(writeFiles(t, map[string]string{
		"hello":   "hello\n",
		"sub/two": "2\n",
		"Dockerfile": `FROM scratch AS one
COPY --chown=7:8 --chmod=600 hello /deep/down/hello
FROM scratch
WORKDIR /app
COPY sub .
COPY --from=one /deep /deep
LABEL made=without
CMD ["/nothing"]
`}))); err != nil {
		t.Fatal(err)
	}
	os.Chmod(ctx, 0o755)
	s.build(t, "plain", ctx)
	tar := filepath.Join(home, "plain.tar")
	s.ok(t, "save", "-o", tar, "plain")
	if out := s.ok(t, "images", "--format", "{{.Repository}}:{{.Tag}}"); out != "plain:latest" {
		t.Errorf("images: %q", out)
	}
	if out := s.ok(t, "history", "--format", "{{.CreatedBy}}", "plain"); !strings.Contains(out, "COPY sub . # buildkit") {
		t.Errorf("history: %q", out)
	}
	s.build(t, "plain", ctx).hit(t, "COPY sub .")
	s.check(t)

	// Root finds in it what was asked for, owners included.
	root := newStore(t)
	root.ok(t, "load", "-i", tar)
	out := t.TempDir()
	tool(t, "skopeo", "--insecure-policy", "copy", "-q", "docker-archive:"+tar, "oci:"+out+"/layout:plain")
	tool(t, "umoci", "unpack", "--image", out+"/layout:plain", out+"/bundle")
	got := tool(t, "sh", "-c", `cd "$0" && find . -mindepth 1 -printf '%P %U:%G %m\n' | sort`, out+"/bundle/rootfs")
	want := "app 0:0 755\napp/two 0:0 644\ndeep 0:0 755\ndeep/down 7:8 600\ndeep/down/hello 7:8 600"
	if got != want {
		t.Errorf("the image holds\n%s, wanted\n%s", got, want)
	}

	// What does need a namespace says so, in one line and at its place.
	os.WriteFile(filepath.Join(ctx, "Dockerfile"), []byte("FROM scratch\nCOPY hello /\nRUN [\"/hello\"]\n"), 0o644)
	s.fails(t, 1, []string{`Dockerfile:3`, `(?i)not permitted|permission|namespace`}, "build", ctx)
}

// TestUnprivilegedOneRoot: two users, two stores, by default each at home.
func TestUnprivilegedOneRoot(t *testing.T) {
	t.Parallel()
	s, home := newConfined(t)
	argv := append(append([]string{}, s.wrap...), nacre, "images", "-q")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(home, ".local/share/nacre")); err != nil {
		t.Error(err)
	}
}
