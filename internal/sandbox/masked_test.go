package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestThrottlePaths: each processor's is hidden, where there are any.
func TestThrottlePaths(t *testing.T) {
	dir := t.TempDir()
	want := []string{}
	for _, name := range []string{"cpu0", "cpu1", "cpu10", "cpufreq", "cpuidle"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "thermal_throttle"), 0o755); err != nil {
			t.Fatal(err)
		}
		if name < "cpu:" {
			want = append(want, filepath.Join(dir, name, "thermal_throttle"))
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "cpu2"), 0o755); err != nil { // out of order
		t.Fatal(err)
	}
	if got := throttlePaths(dir); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := throttlePaths(t.TempDir()); got != nil {
		t.Errorf("of no processor: %q", got)
	}
	if !slices.Contains(DefaultSpec(SpecOptions{}).Linux.MaskedPaths, "/proc/interrupts") {
		t.Error("nothing is hidden")
	}
}
