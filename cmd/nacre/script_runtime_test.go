package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// byRuntimes are scripts that hold whoever runs the container: of its flags, streams, terminals, signals, mounts,
// networks and end. Left out are those that quote our own words for what an image or a command got wrong.
var byRuntimes = []string{
	"run_stdin", "run_output", "run_terminal", "run_config", "run_groups", "run_namespaces", "run_mount", "run_volume",
	"run_volume_over", "run_network_private", "run_network_publish", "run_exit_codes",
	"exec_many", "exec_states", "exec_terminal",
	"container_attach", "container_create", "container_detached", "container_health", "container_init", "container_logs",
	"container_monitor_killed", "container_restart", "container_stdin_stuck", "container_user_added",
	"cp_paths", "diff_commit_export",
}

// notByGvisor are those of them that look at what a container of gVisor's does not have: names of terminals and of the machine's
// namespaces, the kernel's words for mounts, processes and memory shared with others, pipes and /tmp in the layers. The script
// runsc has what of them can be had.
var notByGvisor = []string{
	"run_terminal", "exec_terminal", "container_init", "run_mount", "run_namespaces", "run_network_private", "cp_paths", "diff_commit_export",
}

// runtimePatience is how long the scripts of one runtime may take, all together: what waits for ever fails by it, and says where.
const runtimePatience = 5 * time.Minute

// TestScriptsByRuntime runs scripts with the OCI runtimes that this machine has to have (scripts/setup tools).
func TestScriptsByRuntime(t *testing.T) {
	runtimes := map[string][]string{
		"crun": {"run_hangup"}, // ten seconds of a client's patience, in which the runtime is not asked for anything
		"runc": nil,
	}
	if os.Getenv("NACRE_TEST_RUNSC") != "" { // make runsc, which builds it
		runtimes["runsc"] = []string{"../gvisor/runsc"}
	}
	for name, more := range runtimes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(name); err != nil {
				t.Fatalf("%v: scripts/setup tools installs it", err)
			}
			p := scriptParams()
			p.Deadline = time.Now().Add(runtimePatience)
			for _, script := range slices.Concat(byRuntimes, more) {
				if name == "runsc" && slices.Contains(notByGvisor, script) {
					continue
				}
				p.Files = append(p.Files, filepath.Join("testdata", "script", script+".txtar"))
			}
			setup := p.Setup
			p.Setup = func(e *testscript.Env) error {
				e.Setenv("NACRE_RUNTIME", name)
				return setup(e)
			}
			testscript.Run(t, p)
		})
	}
}
