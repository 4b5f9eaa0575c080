package bundle

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestCheckID(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		"web": true, "a": true, "A_b+c-1.2": true, ".hidden": true, "...": true, strings.Repeat("x", 255): true,
		"": false, ".": false, "..": false, "a/b": false, "../x": false, "a b": false, "ü": false, "a\x00": false, strings.Repeat("x", 256): false,
	} {
		if err := checkID(id); (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for v, ok := range map[string]bool{
		"1.0.0": true, "1.2.1": true, "1.0.2-dev": true, "1.1.0+dev": true, "1.0.0-rc5": true,
		"": false, "1": false, "1.0": false, "2.0.0": false, "0.1.0": false, "v1.0.0": false, "1.0.0 ": false,
	} {
		if err := checkVersion(v); (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
	}
}

const goodConfig = `{"ociVersion":"1.0.2","process":{"args":["sh"],"cwd":"/"},"root":{"path":"rootfs"},"linux":{}}`

// newBundle is a bundle with this config.json, which has a root.
func newBundle(t testing.TB, config string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/rootfs", 0o755), os.WriteFile(dir+"/file", nil, 0o644), os.WriteFile(dir+"/config.json", []byte(config), 0o644))
	return dir
}

func TestReadBundle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ from, to, err string }{
		"good":             {},
		"no JSON":          {goodConfig, `{"ociVersion":`, "unexpected end"},
		"of another kind":  {goodConfig, `[1]`, "cannot unmarshal"},
		"nothing":          {goodConfig, `null`, "ociVersion"},
		"version":          {"1.0.2", "3.0.0", `"3.0.0" is not supported`},
		"no root":          {`"root"`, `"tree"`, "root.path is needed"},
		"empty root":       {`"rootfs"`, `""`, "root.path is needed"},
		"root is a file":   {`"rootfs"`, `"file"`, "not a directory"},
		"root is not here": {`"rootfs"`, `"nope"`, "no such file"},
		"no process":       {`"process"`, `"programm"`, "process and linux are needed"},
		"not for Linux":    {`"linux"`, `"windoze"`, "process and linux are needed"},
	} {
		t.Run(name, func(t *testing.T) {
			c0 := &container{}
			c0.Bundle = newBundle(t, strings.Replace(goodConfig, c.from, c.to, 1))
			err := c0.readBundle()
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if err == nil && c0.Root != filepath.Join(c0.Bundle, "rootfs") {
				t.Errorf("the root is %q", c0.Root)
			}
		})
	}
}

// put makes the folder of a container that has been created.
func put(t testing.TB, r Runtime, id, state, config string) {
	t.Helper()
	dir := filepath.Join(r.Root, id)
	must(t, os.MkdirAll(dir, 0o700), os.WriteFile(dir+"/lock", nil, 0o600),
		os.WriteFile(dir+"/state.json", []byte(state), 0o600), os.WriteFile(dir+"/config.json", []byte(config), 0o600))
}

func stateOf(t testing.TB, change func(*record)) string {
	t.Helper()
	rec := record{ID: "web", Bundle: "/b", Pid: os.Getpid(), Boot: bootID()}
	rec.Birth, _ = born(rec.Pid)
	change(&rec)
	text, err := json.Marshal(rec)
	must(t, err)
	return string(text)
}

// A container is what its process is, and no other process is taken for it.
func TestStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*record)
		want   specs.ContainerState
	}{
		"waits":                {func(*record) {}, specs.StateCreated},
		"started":              {func(r *record) { r.Started = true }, specs.StateRunning},
		"another's number":     {func(r *record) { r.Birth++ }, specs.StateStopped},
		"before a reboot":      {func(r *record) { r.Boot = "other" }, specs.StateStopped},
		"no process":           {func(r *record) { r.Pid = 0 }, specs.StateStopped},
		"a process that ended": {func(r *record) { r.Pid = 1 << 30 }, specs.StateStopped},
		"no such cgroup":       {func(r *record) { r.Started, r.Cgroups = true, []string{"/sys/fs/cgroup/freezer/nope"} }, specs.StateRunning},
	} {
		t.Run(name, func(t *testing.T) {
			r := Runtime{t.TempDir()}
			put(t, r, "web", stateOf(t, c.change), goodConfig)
			s, err := r.State("web")
			must(t, err)
			if s.Status != c.want || (s.Pid != 0) != (c.want != specs.StateStopped) || s.Bundle != "/b" {
				t.Errorf("%+v, want %s", s, c.want)
			}
		})
	}
}

// What is asked of a container that is not so is refused by the error that callers look for.
func TestRefused(t *testing.T) {
	t.Parallel()
	r := Runtime{t.TempDir()}
	put(t, r, "runs", stateOf(t, func(r *record) { r.Started = true }), goodConfig)
	put(t, r, "ended", stateOf(t, func(r *record) { r.Pid = 0 }), goodConfig)
	process := &specs.Process{Args: []string{"true"}, Cwd: "/"}
	of := func(_ any, err error) error { return err }
	for name, c := range map[string]struct{ got, want error }{
		"state of none":      {of(r.State("none")), ErrNotFound},
		"start of none":      {r.Start(t.Context(), "none"), ErrNotFound},
		"start twice":        {r.Start(t.Context(), "runs"), ErrNotCreated},
		"start of the ended": {r.Start(t.Context(), "ended"), ErrNotCreated},
		"kill of the ended":  {r.Kill("ended", 9, false), ErrNotRunning},
		"kill of none":       {r.Kill("none", 9, true), ErrNotFound},
		"delete a running":   {r.Delete(t.Context(), "runs", false), ErrNotStopped},
		"delete none":        {r.Delete(t.Context(), "none", false), ErrNotFound},
		"exec in the ended":  {of(r.Exec(t.Context(), "ended", process, Options{})), ErrNotRunning},
		"pause the ended":    {r.Pause("ended"), ErrNotRunning},
		"pause without":      {r.Pause("runs"), ErrNoFreezer},
		"create one twice":   {of(r.Create(t.Context(), "runs", newBundle(t, goodConfig), Options{})), ErrExists},
		"terminal":           {of(r.Create(t.Context(), "tty", newBundle(t, goodConfig), Options{ConsoleSocket: "/s"})), errTerminal},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	must(t, r.Kill("ended", 9, true), r.Delete(t.Context(), "none", true), r.Delete(t.Context(), "ended", false))
	if _, err := os.Stat(r.Root + "/ended"); err == nil {
		t.Error("it is still there")
	}
}

// One whose making was interrupted is not in the way of the others, and goes.
func TestHalfMade(t *testing.T) {
	t.Parallel()
	r := Runtime{t.TempDir()}
	put(t, r, "web", stateOf(t, func(*record) {}), goodConfig)
	must(t, os.MkdirAll(r.Root+"/half", 0o711), os.WriteFile(r.Root+"/half/lock", nil, 0o600), os.Mkdir(r.Root+"/early", 0o711))
	list, err := r.List()
	if err != nil || len(list) != 1 || list[0].ID != "web" {
		t.Errorf("%+v, %v", list, err)
	}
	must(t, r.Delete(t.Context(), "half", true), r.Delete(t.Context(), "early", true))
	for _, id := range []string{"half", "early"} {
		if _, err := os.Stat(filepath.Join(r.Root, id)); err == nil {
			t.Errorf("%s is still there", id)
		}
	}
}

func TestWritePid(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "pid")
	must(t, writePid("", 1), writePid(name, 42))
	if got, err := os.ReadFile(name); err != nil || string(got) != "42" {
		t.Errorf("%q, %v", got, err)
	}
	if err := writePid("/nope/pid", 42); err == nil {
		t.Error("there is no such folder")
	}
}

// FuzzConfig reads any config.json: what is taken has all that the rest goes by, and what is not is refused by name.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{goodConfig, `null`, `{}`, strings.Replace(goodConfig, "rootfs", "../../..", 1), strings.Replace(goodConfig, `"linux":{}`, `"linux":null`, 1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := &container{}
		c.Bundle = newBundle(t, text)
		if err := c.readBundle(); err != nil {
			if !strings.Contains(err.Error(), "config.json") {
				t.Errorf("which file is it? %v", err)
			}
			return
		}
		if c.spec.Process == nil || c.spec.Linux == nil || !filepath.IsAbs(c.Root) {
			t.Errorf("%+v", c.spec)
		}
	})
}

// FuzzState reads any state of a container: none is taken for one that runs, and nothing fails but by an error.
func FuzzState(f *testing.F) {
	f.Add(`{"id":"web","pid":1,"birth":1,"boot":"x"}`, goodConfig)
	f.Add(`{"id":"web","pid":-1,"cgroups":["../..",""]}`, `null`)
	f.Add(`[]`, `{"process":null}`)
	f.Fuzz(func(t *testing.T, state, config string) {
		if strings.Contains(state, bootID()) {
			return // it knows the machine
		}
		r := Runtime{t.TempDir()}
		put(t, r, "web", state, config)
		if s, err := r.State("web"); err == nil && s.Status != specs.StateStopped {
			t.Errorf("%+v", s)
		}
		if err := r.Start(t.Context(), "web"); err == nil {
			t.Error("it was started")
		}
		r.Process("web", []string{"true"})
		r.List()
		if err := r.Pause("web"); err == nil {
			t.Error("it was paused")
		}
	})
}
