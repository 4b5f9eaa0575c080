package build

import (
	"os"
	"strings"
	"testing"
)

// Twenty steps that do nothing: what is left is the cost of a step.
func BenchmarkRun20(b *testing.B) {
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		b.Skip("busybox-static is not installed")
	}
	be := newBench(b, map[string]string{"busybox": string(data)})
	os.Chmod(be.dir+"/busybox", 0o755)
	df := "FROM scratch\nCOPY busybox /bin/\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n" + strings.Repeat("RUN true\n", 20)
	be.build(df)
	be.opts.NoCache = true
	for b.Loop() {
		be.build(df)
	}
}

// A build where nothing is to be done.
func BenchmarkCached(b *testing.B) {
	be := newBench(b, map[string]string{"f": "x", "d/g": "y"})
	const df = "FROM scratch\nCOPY f /f\nCOPY d /d\nWORKDIR /w\nENV a=b\nCOPY f /g\nCOPY f /h\nCOPY f /i\nCMD [\"x\"]\n"
	be.build(df)
	for b.Loop() {
		be.build(df)
	}
}
