package sandbox

import (
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

	mu      sync.Mutex
	until   time.Time // when there is nothing more to look for
	looking bool
}

// Strays are looked for every strayPause, until strayTime after the last one was seen: what a runtime leaves may leave
// others in its turn.
const (
	strayPause = 100 * time.Millisecond
	strayTime  = 2 * time.Second
)

// mindStrays waits for what a launch that failed just now may have left.
func mindStrays() {
	strays.mu.Lock()
	defer strays.mu.Unlock()
	strays.until = time.Now().Add(strayTime)
	if !strays.looking {
		strays.looking = true
		go func() {
			for lookForStrays() {
				time.Sleep(strayPause)
			}
		}()
	}
}

// lookForStrays tells whether to look again.
func lookForStrays() bool {
	seen := waitForStrays()
	strays.mu.Lock()
	defer strays.mu.Unlock()
	if seen {
		strays.until = time.Now().Add(strayTime)
	}
	strays.looking = time.Now().Before(strays.until)
	return strays.looking
}

// waitForStrays waits for those that have ended, and tells whether there were any, ended or not.
func waitForStrays() (any bool) {
	strays.launching.Lock()
	defer strays.launching.Unlock()
	for _, pid := range inNamespaces(children()) {
		if _, known := strays.known.Load(pid); !known {
			any = true
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
	return any
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
		if len(NamespaceIDs(pid)) > 1 {
			list = append(list, pid)
		}
	}
	return list
}
