package sandbox

import (
	"os"
	"path/filepath"
	"sync"
)

// maskedPaths are what Docker hides: what tells of the machine's hardware and of what others do on it.
var maskedPaths = sync.OnceValue(func() []string {
	return append([]string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
		"/sys/firmware", "/sys/devices/virtual/powercap",
	}, throttlePaths("/sys/devices/system/cpu")...)
})

// throttlePaths are those that tell how hot each processor is, by which others' work can be heard (GHSA-6fw5-f8r9-fgfm). Where the first has
// none, no other has: they are of Intel's, whose first one cannot be taken out.
func throttlePaths(cpus string) []string {
	const name = "thermal_throttle"
	if _, err := os.Stat(filepath.Join(cpus, "cpu0", name)); err != nil {
		return nil
	}
	list, _ := filepath.Glob(filepath.Join(cpus, "cpu[0-9]*", name))
	return list
}
