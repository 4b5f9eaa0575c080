package device

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const spec = `
cdiVersion: "0.6.0"
kind: vendor1.com/device
containerEdits:
  env: [ALL=1]
devices:
- name: foo
  containerEdits:
    env: [FOO=injected]
    deviceNodes:
    - {path: /dev/nacre-test, hostPath: /dev/zero, fileMode: 0600, uid: 7}
    mounts:
    - {hostPath: /etc, containerPath: /mnt/etc, options: [ro]}
- name: bar
  annotations: {org.mobyproject.buildkit.device.class: class1}
  containerEdits: {env: [BAR=injected]}
- name: baz
  annotations: {org.mobyproject.buildkit.device.class: class1, org.mobyproject.buildkit.device.autoallow: "true"}
  containerEdits: {env: [BAZ=injected]}
- name: hooked
  containerEdits:
    hooks:
    - {hookName: prestart, path: /bin/hook1}
    - {hookName: createRuntime, path: /bin/hook2}
    - {hookName: createContainer, path: /bin/hook3, args: [hook3, create-symlinks], env: [A=b], timeout: 3}
    - {hookName: createContainer, path: /bin/hook4}
    - {hookName: startContainer, path: /bin/hook5}
    - {hookName: poststart, path: /bin/hook6}
    - {hookName: poststop, path: /bin/hook7}
`

func open(t *testing.T, files map[string]string) *Set {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Open([]string{dir})
}

func TestFind(t *testing.T) {
	s := open(t, map[string]string{"a.yaml": spec, "broken.json": "{", "ignored.txt": spec})
	for name, want := range map[string]string{
		"vendor1.com/device":      "vendor1.com/device=bar",
		"vendor1.com/device=foo":  "vendor1.com/device=foo",
		"vendor1.com/device=*":    "vendor1.com/device=bar vendor1.com/device=baz vendor1.com/device=foo vendor1.com/device=hooked",
		"class1":                  "vendor1.com/device=bar vendor1.com/device=baz",
		"class2":                  "",
		"vendor1.com/device=fo":   "",
		"vendor1.com/devic":       "",
		"vendor1.com/device=foo=": "",
		"":                        "",
	} {
		got, err := s.Find(name)
		if strings.Join(got, " ") != want || (want == "") != errors.Is(err, ErrAbsent) {
			t.Errorf("%q is %q, %v; want %q", name, got, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "broken.json") {
			t.Errorf("the error does not name the spec that is broken: %v", err)
		}
	}
}

func TestResolve(t *testing.T) {
	s := open(t, map[string]string{"a.yaml": spec})
	for _, c := range []struct {
		grants, asked, want, missing string
		denied                       string
	}{
		{asked: "vendor1.com/device=foo", denied: "vendor1.com/device=foo"},
		{asked: "vendor1.com/device=baz", want: "vendor1.com/device=baz"},
		{asked: "class1", denied: "vendor1.com/device=bar"},
		{asked: "gone", missing: "gone"},
		{grants: "*", asked: "class1 vendor1.com/device=bar", want: "vendor1.com/device=bar vendor1.com/device=baz"},
		{grants: "class1", asked: "vendor1.com/device=bar", want: "vendor1.com/device=bar"},
		{grants: "class1", asked: "vendor1.com/device=foo", denied: "vendor1.com/device=foo"},
		{grants: "vendor1.com/device=foo,alias=gpu", asked: "gpu", want: "vendor1.com/device=foo"},
		{grants: "gone", asked: "vendor1.com/device=foo", denied: "vendor1.com/device=foo"},
	} {
		var g Grants
		for _, v := range strings.Fields(c.grants) {
			if err := g.Grant(strings.TrimPrefix(v, "*")); err != nil {
				t.Fatal(err)
			}
		}
		var asked []Request
		for _, n := range strings.Fields(c.asked) {
			asked = append(asked, Request{Name: n})
		}
		names, missing, err := s.Resolve(g, asked)
		var denied *DeniedError
		if errors.As(err, &denied) != (c.denied != "") || denied != nil && denied.Device != c.denied {
			t.Errorf("%+v: error %v", c, err)
		} else if err == nil && (strings.Join(names, " ") != c.want || strings.Join(missing, " ") != c.missing) {
			t.Errorf("%+v: %q, missing %q", c, names, missing)
		}
	}
	if _, _, err := s.Resolve(Grants{All: true}, []Request{{Name: "gone", Required: true}}); !errors.Is(err, ErrAbsent) {
		t.Errorf("a required device that is not there: %v", err)
	}
}

func TestGrant(t *testing.T) {
	for _, bad := range []string{",alias=x", "a,b", "a,alias=", "a,name=b", `a"b`} {
		if err := new(Grants).Grant(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAdd(t *testing.T) {
	s := open(t, map[string]string{"a.yaml": spec})
	out := &specs.Spec{Process: &specs.Process{Env: []string{"FOO=old", "A=b"}}, Linux: &specs.Linux{}}
	if err := s.Add(out, []string{"vendor1.com/device=foo", "vendor1.com/device=bar"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"FOO=injected", "A=b", "ALL=1", "BAR=injected"}; !slices.Equal(out.Process.Env, want) {
		t.Errorf("environment %q, want %q", out.Process.Env, want)
	}
	if d := out.Linux.Devices; len(d) != 1 || d[0].Path != "/dev/nacre-test" || d[0].Type != "c" || d[0].Major != 1 || d[0].Minor != 5 || d[0].FileMode.Perm() != 0o600 || *d[0].UID != 7 {
		t.Errorf("devices %+v", d)
	}
	if len(out.Mounts) != 1 || out.Mounts[0].Destination != "/mnt/etc" {
		t.Errorf("mounts %+v", out.Mounts)
	}
	if err := s.Add(out, []string{"vendor1.com/device=gone"}); !errors.Is(err, ErrAbsent) {
		t.Errorf("a device that is not there: %v", err)
	}
}

func TestAddHooks(t *testing.T) {
	s := open(t, map[string]string{"a.yaml": spec})
	out := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
	if err := s.Add(out, []string{"vendor1.com/device=hooked"}); err != nil {
		t.Fatal(err)
	}
	three := 3
	want := &specs.Hooks{
		//lint:ignore SA1019 it is deprecated, and not gone
		Prestart:        []specs.Hook{{Path: "/bin/hook1"}}, //nolint:staticcheck // the same to another linter
		CreateRuntime:   []specs.Hook{{Path: "/bin/hook2"}},
		CreateContainer: []specs.Hook{{Path: "/bin/hook3", Args: []string{"hook3", "create-symlinks"}, Env: []string{"A=b"}, Timeout: &three}, {Path: "/bin/hook4"}},
		StartContainer:  []specs.Hook{{Path: "/bin/hook5"}},
		Poststart:       []specs.Hook{{Path: "/bin/hook6"}},
		Poststop:        []specs.Hook{{Path: "/bin/hook7"}},
	}
	if diff := cmp.Diff(want, out.Hooks); diff != "" {
		t.Error(diff)
	}
}

func TestNetDevicesAreRefused(t *testing.T) {
	const edits = `containerEdits: {netDevices: [{hostInterfaceName: eth7, name: eth0}]}`
	for name, text := range map[string]string{
		"of the device": "cdiVersion: 1.1.0\nkind: a.b/c\ndevices: [{name: x, " + edits + "}]",
		"of the spec":   "cdiVersion: 1.1.0\nkind: a.b/c\n" + edits + "\ndevices: [{name: x, containerEdits: {env: [A=b]}}]",
	} {
		s := open(t, map[string]string{"a.yaml": text})
		err := s.Add(&specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}, []string{"a.b/c=x"})
		if err == nil || !strings.Contains(err.Error(), "device a.b/c=x: its CDI spec ") || !strings.Contains(err.Error(), "a.yaml wants the network device eth7 in the step, and network devices are not moved there") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen: specs are of this machine, but what writes them may be wrong.
func FuzzOpen(f *testing.F) {
	f.Add(spec)
	f.Add("{")
	f.Add(`{"cdiVersion":"0.6.0","kind":"a.b/c","devices":[{"name":"x","containerEdits":{"deviceNodes":[{"path":"/dev/x","hostPath":"/dev/null"}]}}]}`)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s := Open([]string{dir})
		for _, name := range s.cache.ListDevices() {
			if found, err := s.Find(name); err != nil || len(found) == 0 {
				t.Errorf("%s is listed and not found: %v", name, err)
			}
			s.Add(&specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}, []string{name})
		}
	})
}
