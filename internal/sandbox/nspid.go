package sandbox

import (
	"fmt"
	"os"
	"strings"
)

// NamespaceIDs are the numbers that a process has in our process namespace and in those below, its own last (proc_pid_status(5),
// NSpid); none where it is gone.
func NamespaceIDs(pid int) []string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return strings.Fields(ids)
		}
	}
	return nil
}
