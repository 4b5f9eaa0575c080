package sandbox

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

func TestDelegated(t *testing.T) {
	const user = "/user.slice/user-1000.slice/user@1000.service"
	may := func(dirs ...string) func(string) bool {
		return func(name string) bool {
			return slices.ContainsFunc(dirs, func(d string) bool { return name == d+"/cgroup.procs" || name == d+"/cgroup.subtree_control" })
		}
	}
	for _, c := range []struct {
		name, own string
		may       func(string) bool
		want      string
	}{
		{"root", "/", may("/top"), "/top"},
		{"root, deep", "/a/b", may("/top", "/top/a"), "/top"},
		{"user", user + "/app.slice/run-1.scope", may("/top"+user, "/top"+user+"/app.slice", "/top"+user+"/app.slice/run-1.scope"), "/top" + user},
		{"user, own alone", "/x.scope", may("/top/x.scope"), ""},
		{"user, a session", "/user.slice/user-1000.slice/session-1.scope", may("/top" + user), ""},
		{"user, with a gap", "/a/b/c/d", may("/top/a", "/top/a/b/c"), "/top/a/b/c"},
		{"user, some files", "/a/b", func(name string) bool { return name == "/top/a/cgroup.procs" }, ""},
	} {
		got, err := delegated("/top", c.own, c.may)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, wanted %q", c.name, got, err, c.want)
		}
	}
}

func TestLimitWarnings(t *testing.T) {
	got := limitWarnings([]string{"memory limit", "cpu limit", "swap limit"}, []error{errNotDelegated, errors.New("x"), fmt.Errorf("a: %w", errNotDelegated)})
	want := []string{"cpu limit is not applied: x", "memory limit, swap limit are not applied: " + errNotDelegated.Error()}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, wanted %q", got, want)
	}
}
