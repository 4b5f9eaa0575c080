package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// strays are processes that a runtime made and left to us without a word, as it failed or was killed. As long as one of them
// is a zombie in the container's process namespace, the first process there cannot end (pid_namespaces(7)): so they are
// waited for.
var strays struct {
	launching sync.RWMutex // held for reading until what a runtime makes is known, for writing while strays are waited for
	known     sync.Map     // int: processes that somebody waits for
	once      sync.Once
}

// strayPause is between two looks for them, once there may be any.
const strayPause = 100 * time.Millisecond

// mindStrays waits for strays from now on, for as long as this process lives.
func mindStrays() {
	strays.once.Do(func() {
		go func() {
			for ; ; time.Sleep(strayPause) {
				strays.launching.Lock()
				for _, pid := range inNamespaces(children()) {
					if _, known := strays.known.Load(pid); !known {
						unix.Wait4(pid, nil, unix.WNOHANG, nil)
					}
				}
				strays.launching.Unlock()
			}
		}()
	})
}

// children are the processes whose parent we are. Without CONFIG_PROC_CHILDREN of the kernel there are none.
func children() (list []int) {
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range files {
		data, _ := os.ReadFile(f)
		for field := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				list = append(list, pid)
			}
		}
	}
	return list
}

// inNamespaces are those that are in a process namespace below ours: what we start ourselves is in ours.
func inNamespaces(pids []int) (list []int) {
	for _, pid := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(data)) {
			if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok && len(strings.Fields(numbers)) > 1 {
				list = append(list, pid)
			}
		}
	}
	return list
}
