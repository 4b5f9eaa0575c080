package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// FreezerOf is the one of a container's cgroups by which all that is in it can be stopped, or empty.
func FreezerOf(cgroups []string) string {
	for _, dir := range cgroups {
		if strings.HasPrefix(dir, filepath.Join(cgroupRoot, "freezer")+"/") {
			return dir
		}
	}
	for _, dir := range cgroups {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err == nil {
			return dir
		}
	}
	return ""
}

// freezing is how a version of cgroups is told to stop what is in one.
type freezing struct {
	file  string    // written to
	value [2]string // no, yes
	state string    // tells what is so
	is    [2]string
}

var freezings = [2]freezing{
	{"freezer.state", [2]string{"THAWED", "FROZEN"}, "freezer.state", [2]string{"THAWED", "FROZEN"}},
	{"cgroup.freeze", [2]string{"0", "1"}, "cgroup.events", [2]string{"frozen 0", "frozen 1"}},
}

func freezingOf(dir string) freezing {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err == nil {
		return freezings[1]
	}
	return freezings[0]
}

// Freeze stops the processes in a cgroup, of either version, or lets them go on, and waits until that is so.
func Freeze(dir string, frozen bool) error {
	f, which := freezingOf(dir), 0
	if frozen {
		which = 1
	}
	for range 1000 { // 10 s
		if err := os.WriteFile(filepath.Join(dir, f.file), []byte(f.value[which]), 0); err != nil {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, f.state))
		if err != nil {
			return err
		}
		if strings.Contains(string(data), f.is[which]) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the kernel did not stop all of its processes")
}

// Frozen tells whether the processes in a cgroup are stopped.
func Frozen(dir string) bool {
	f := freezingOf(dir)
	data, err := os.ReadFile(filepath.Join(dir, f.state))
	return err == nil && strings.Contains(string(data), f.is[1])
}
