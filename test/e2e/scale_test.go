package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// maxMemory is what a build may use at its peak, whatever it builds: what a small CI
// runner has to spare.
const maxMemory = 300 << 20

// full is set by NACRE_SCALE=full: sizes as large as they were ever seen. The ones used
// otherwise go the same ways in a tenth of the time.
var full = os.Getenv("NACRE_SCALE") == "full"

func pick[T any](quick, whole T) T {
	if full {
		return whole
	}
	return quick
}

// light builds dir and fails where that takes more memory than any build may.
func (s *store) light(t *testing.T, want int, dir string, args ...string) string {
	t.Helper()
	cmd := s.cmd(append([]string{"build", "-q", "-t", "big"}, append(args, dir)...)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("exit code %d, want %d\n%.2000s", code, want, out)
	}
	peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	if peak > maxMemory {
		t.Errorf("it took %d MiB of memory", peak>>20)
	}
	t.Logf("%d MiB, %v of processor time", peak>>20, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	return string(out)
}

// ran runs a command in the image just built and returns what it printed.
func (s *store) ran(t *testing.T, command string) string {
	t.Helper()
	return s.ok(t, "run", "--rm", "big", "sh", "-c", command)
}

// TestManyFiles: a context as large as a monorepo's.
func TestManyFiles(t *testing.T) {
	s := newBusybox(t)
	n := pick(20_000, 100_000)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM busybox\nCOPY src /src/\nCOPY src/d001 /again/\n"})
	for i := range n {
		sub := filepath.Join(dir, "src", fmt.Sprintf("d%03d", i%250))
		if i < 250 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/file-%06d.txt", sub, i), fmt.Appendf(nil, "content of %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.light(t, 0, dir)
	if got := s.ran(t, "find /src -type f | wc -l; find /again -type f | wc -l; cat /again/file-000251.txt"); got != fmt.Sprintf("%d\n%d\ncontent of 251", n, n/250) {
		t.Error(got)
	}
	s.light(t, 0, dir) // all cached
}

// TestBigFile: holes on the disk are content to the image, and stay holes in the store.
func TestBigFile(t *testing.T) {
	s := newBusybox(t)
	size := pick[int64](600<<20, 5<<30)
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM busybox AS a\nCOPY big /big\nFROM busybox\nCOPY --from=a /big /copy\n", "big": "begin"})
	f, err := os.OpenFile(filepath.Join(dir, "big"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("end"), size-3); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.light(t, 0, dir)
	if got := s.ran(t, "stat -c %s /copy; head -c 5 /copy; tail -c 3 /copy"); got != fmt.Sprintf("%d\nbeginend", size) {
		t.Error(got)
	}
	var used int64
	filepath.Walk(s.root, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			used += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if used > size/4 {
		t.Errorf("the store takes %d MiB for a file of holes", used>>20)
	}
}

// TestDeepPath: as deep as Linux has paths, and no deeper.
func TestDeepPath(t *testing.T) {
	s := newBusybox(t)
	for _, c := range []struct{ length, code int }{{3990, 0}, {4300, 1}} {
		dir := writeFiles(t, map[string]string{"Dockerfile": "FROM busybox\nCOPY src /s/\n", "src/": ""})
		parts := deepFile(t, filepath.Join(dir, "src"), c.length)
		out := s.light(t, c.code, dir)
		if c.code != 0 {
			if !strings.Contains(out, "4096") || !strings.Contains(out, "Dockerfile:2") {
				t.Errorf("the limit is not told:\n%.2000s", out)
			}
			continue
		}
		if got := s.ran(t, "cd /s && for i in $(seq "+fmt.Sprint(parts)+"); do cd d*; done && cat file"); got != "deep" {
			t.Error(got)
		}
	}
}

// deepFile makes a file whose name below dir has about length bytes, and returns in how many directories.
func deepFile(t *testing.T, dir string, length int) int {
	t.Helper()
	at, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	part, n := "d"+strings.Repeat("x", 199), 0
	for ; (n+1)*201 < length; n++ {
		if err := at.Mkdir(part, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := at.OpenRoot(part)
		at.Close()
		if err != nil {
			t.Fatal(err)
		}
		at = next
	}
	defer at.Close()
	if err := at.WriteFile("file", []byte("deep"), 0o644); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOddNames: names are bytes, of any encoding or none.
func TestOddNames(t *testing.T) {
	s := newBusybox(t)
	names := []string{"caf\xe9", "\xff\xfe", "tab\there", "new\nline", "quote'\"", "back\\slash", " lead", "trail ", "-dash", "[a]", "*", "#x", "日本語", "e\u0301", strings.Repeat("n", 255)}
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM busybox AS a\nCOPY src /src/\nRUN for f in /src/* /src/.[!.]*; do [ -f \"$f\" ] && mv \"$f\" \"$f.\" 2>/dev/null; done; true\nFROM busybox\nCOPY src /src/\nCOPY --from=a /src /moved/\n", "src/": ""})
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, "src", name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.light(t, 0, dir)
	if got := s.ran(t, "ls -A /src | wc -c; ls -A /moved | wc -c; cd /src; for f in *; do [ \"$f\" = \"$(cat -- \"$f\")\" ] || echo \"$f\" is another; done"); strings.Contains(got, "is another") {
		t.Error(got)
	}
	// Out and in again: what another tool would be handed.
	saved := filepath.Join(t.TempDir(), "saved.tar")
	s.ok(t, "save", "-o", saved, "big")
	other := newStore(t)
	other.ok(t, "load", "-i", saved)
	count := "cd /src; n=0; for f in *; do n=$((n+1)); done; echo $n"
	if got := other.ok(t, "run", "--rm", "big", "sh", "-c", count); got != fmt.Sprint(len(names)) {
		t.Errorf("%s files of %d are left", got, len(names))
	}
	other.check(t)
}

// TestManyStages: each from the one before, and one that needs them all.
func TestManyStages(t *testing.T) {
	s := newBusybox(t)
	n := pick(300, 1000)
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "FROM busybox AS s%d\nENV N=%d\nCOPY <<x /x\n%d\nx\n", i, i, i)
	}
	b.WriteString("FROM busybox\n")
	for i := range n {
		fmt.Fprintf(&b, "COPY --from=s%d /x /all/%d\n", i, i)
		if i%100 == 99 && i < n-1 { // fewer layers than an image may have mounted
			fmt.Fprintf(&b, "FROM busybox AS part%d\nCOPY --from=%d /all/ /all/\n", i, n+i/100)
		}
	}
	dir := writeFiles(t, map[string]string{"Dockerfile": b.String()})
	s.light(t, 0, dir)
	if got := s.ran(t, fmt.Sprintf("ls /all | wc -l; cat /all/%d", n-1)); got != fmt.Sprintf("%d\n%d", n, n-1) {
		t.Error(got)
	}
	chain := strings.Builder{}
	chain.WriteString("FROM busybox AS s0\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&chain, "FROM s%d AS s%d\nENV N%d=%d\n", i-1, i, i%7, i)
	}
	chain.WriteString("RUN [ $N1$N2$N3$N4$N5$N6$N0 ]\n")
	s.light(t, 0, writeFiles(t, map[string]string{"Dockerfile": chain.String()}))
}

// TestBigDockerfile: generated ones have no shame.
func TestBigDockerfile(t *testing.T) {
	s := newBusybox(t)
	var b strings.Builder
	b.WriteString("FROM busybox\n")
	for i := 0; b.Len() < 1<<20; i++ {
		fmt.Fprintf(&b, "LABEL label%d=\"%s\"\n", i%50, strings.Repeat("v", 500))
		fmt.Fprintf(&b, "# %s\n", strings.Repeat("comment ", 60))
	}
	b.WriteString("COPY <<x /x\n" + strings.Repeat(strings.Repeat("y", 1023)+"\n", 1000) + "x\n")
	s.light(t, 0, writeFiles(t, map[string]string{"Dockerfile": b.String()}))
	if got := s.ran(t, "wc -c </x"); got != "1024000" {
		t.Error(got)
	}
	out := s.light(t, 1, writeFiles(t, map[string]string{"Dockerfile": "FROM busybox\n# " + strings.Repeat("x", 64<<20)}))
	if !strings.Contains(out, "bytes") {
		t.Errorf("the limit is not told: %.500s", out)
	}
}
