package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// errNotDelegated is what a user has of the cgroups of others.
var errNotDelegated = errors.New("no cgroup is delegated to the user (systemd-run --user --scope -p Delegate=yes COMMAND gives it one)")

// writable tells whether this process may write to a file.
func writable(name string) bool { return unix.Access(name, unix.W_OK) == nil }

// delegated is the cgroup of version 2 below which this process may make others: the top for who may write there, else the
// highest of those above its own that belong to the user, which is where systemd hands them over.
// Its own cannot be it: only cgroups without processes hand controllers to children.
func delegated(top, own string, writable func(string) bool) (string, error) {
	if writable(filepath.Join(top, "cgroup.subtree_control")) {
		return top, nil
	}
	found := ""
	for dir := filepath.Dir(filepath.Join("/", own)); dir != "/"; dir = filepath.Dir(dir) {
		at := filepath.Join(top, dir)
		if !writable(filepath.Join(at, "cgroup.procs")) || !writable(filepath.Join(at, "cgroup.subtree_control")) {
			break
		}
		found = at
	}
	if found == "" {
		return "", errNotDelegated
	}
	return found, nil
}

// SecondBase is the directory of the cgroup of version 2 below which this process may make others.
func SecondBase() (string, error) {
	top := cgroupRoot
	if !unifiedOnly() {
		top = filepath.Join(cgroupRoot, "unified")
	}
	return delegated(top, ownCgroup(), writable)
}

// noController says why a controller cannot limit below top, a cgroup of version 2: nobody has it, or it was not handed on.
func noController(top, controller string) error {
	if all, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil && slices.Contains(strings.Fields(string(all)), controller) && top != cgroupRoot {
		return fmt.Errorf("the %s controller is not delegated to the user (Delegate=%s in the user's service of systemd does it)", controller, controller)
	}
	return fmt.Errorf("this system has no %s cgroups", controller)
}

// ownCgroup is this process's cgroup of version 2.
func ownCgroup() string {
	list, _ := hierarchies()
	for _, h := range list {
		if h.controllers == "" {
			return h.path
		}
	}
	return "/"
}

// Cgroups describes the cgroups of this machine: the version, 1, 2, or 0 for none; and the controllers that limits can be
// set with, or why there are none.
func Cgroups() (version int, controllers []string, err error) {
	if unifiedOnly() {
		base, err := delegated(cgroupRoot, ownCgroup(), writable)
		if err != nil {
			return 2, nil, err
		}
		text, err := os.ReadFile(filepath.Join(base, "cgroup.controllers"))
		return 2, strings.Fields(string(text)), err
	}
	list, err := hierarchies()
	if err != nil {
		return 0, nil, err
	}
	for _, h := range list {
		if h.controllers == "" || strings.HasPrefix(h.controllers, "name=") {
			continue
		}
		version = 1
		if writable(firstVersionBase(h)) {
			controllers = append(controllers, strings.Split(h.controllers, ",")...)
		}
	}
	slices.Sort(controllers)
	if version == 1 && controllers == nil {
		err = errNotDelegated
	}
	return version, controllers, err
}

// limitWarnings are what is said of limits that could not be set: one line, where all have the same reason.
func limitWarnings(failed []string, errs []error) []string {
	var out, refused []string
	for i, err := range errs {
		if errors.Is(err, errNotDelegated) || errors.Is(err, fs.ErrPermission) && inUserns() {
			refused = append(refused, failed[i])
			continue
		}
		out = append(out, fmt.Sprintf("%s is not applied: %v", failed[i], err))
	}
	if len(refused) > 0 {
		verb := " is not applied: "
		if len(refused) > 1 {
			verb = " are not applied: "
		}
		out = append(out, strings.Join(refused, ", ")+verb+errNotDelegated.Error())
	}
	return out
}
