package sandbox

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nacre/internal/rootfs"
)

func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

// busyboxRoot makes a root of busybox alone.
func busyboxRoot(t testing.TB) rootfs.Mount {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "lower", "bin")
	for _, d := range []string{bin, filepath.Join(dir, "upper"), filepath.Join(dir, "work")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("cp", "/usr/bin/busybox", bin).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s (busybox-static is needed)", err, out)
	}
	if out, err := exec.Command("/usr/bin/busybox", "--install", "-s", bin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	links, _ := os.ReadDir(bin)
	for _, l := range links {
		if l.Name() != "busybox" {
			os.Remove(filepath.Join(bin, l.Name()))
			os.Symlink("busybox", filepath.Join(bin, l.Name()))
		}
	}
	return rootfs.Mount{
		Lower: []rootfs.Lower{{Dir: filepath.Join(dir, "lower")}},
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
	}
}

func TestSmoke(t *testing.T) {
	var out, errs bytes.Buffer
	st, err := Run(context.Background(), Config{
		Root: busyboxRoot(t), Stdout: &out, Stderr: &errs, Stdin: bytes.NewReader([]byte("hello\n")),
		Spec:  DefaultSpec(SpecOptions{Args: []string{"sh", "-c", "cat; id; mount; ls -la /dev; cat /proc/self/status; cat /etc/hosts; ls /; exit 3"}, Env: []string{"PATH=/bin"}, Hostname: "h"}),
		Files: []File{{Path: "/etc/hosts", Data: []byte("127.0.0.1 localhost\n")}},
	})
	t.Logf("%+v %v\n%s\n%s", st, err, &out, &errs)
}

// BenchmarkTrue is a whole Run of busybox's true with all defaults. The fastest and the
// median say more than the mean on a machine that does other things, too.
func BenchmarkTrue(b *testing.B) {
	root := busyboxRoot(b)
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		st, err := Run(context.Background(), Config{Root: root, Spec: DefaultSpec(SpecOptions{Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}})})
		if err != nil || st.Code != 0 {
			b.Fatal(st, err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[0].Microseconds()), "min-µs")
	b.ReportMetric(float64(times[len(times)/10].Microseconds()), "p10-µs")
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "median-µs")
}
