package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// buildTime is before any time that a recorded build gave a file, and after those the cases set.
const buildTime = 1_790_000_000

// compare says what is different from what is wanted, nothing where nothing is.
func compare(c testCase, got outcome, base tree) []string {
	j, judged := judgements[c.Dir]
	fails := c.BuildKit.RC != 0
	if judged {
		fails = j.fails
	}
	switch {
	case fails && got.err == nil:
		return []string{"it builds, and should not: " + last(c.BuildKit.Error)}
	case fails:
		return nil
	case got.err != nil:
		return []string{"it does not build: " + last(got.text)}
	case judged && j.files != "":
		return comparePaths(c, strings.Fields(j.files), got.files, base)
	case c.BuildKit.RC != 0:
		return []string{"nothing says what it should be like"}
	}
	return append(compareFiles(c, got.files, base), compareConfig(c.BuildKit.Config, got.config)...)
}

// last is the last line of a text that says something.
func last(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func compareFiles(c testCase, got, base tree) []string {
	skip := ignored(c)
	var out []string
	want := tree{}
	for name, w := range c.BuildKit.FS {
		name = strings.Trim(name, "/")
		if name == "" || name == "." || skip.has(name, "") {
			continue
		}
		want[name] = w
		g, ok := got[name]
		if !ok {
			out = append(out, fmt.Sprintf("%s is missing", name))
			continue
		}
		out = append(out, compareFile(name, g, w, skip)...)
	}
	for name := range got {
		_, wanted := want[name]
		if _, below := base[name]; !wanted && !below && !skip.has(name, "") {
			out = append(out, fmt.Sprintf("%s should not be there", name))
		}
	}
	slices.Sort(out)
	return out
}

func compareFile(name string, got, want file, skip ignore) []string {
	if want.Type != "0" || want.MTime > buildTime {
		want.MTime = got.MTime
	}
	var out []string
	for _, a := range []struct {
		name      string
		got, want any
	}{
		{"t", got.Type, want.Type}, {"mode", got.Mode, want.Mode}, {"uid", got.UID, want.UID}, {"gid", got.GID, want.GID},
		{"size", got.Size, want.Size}, {"mtime", got.MTime, want.MTime}, {"link", got.Link, want.Link},
		{"d", got.Digest, want.Digest}, {"x", got.Xattrs, want.Xattrs},
	} {
		if !skip.has(name, a.name) && !reflect.DeepEqual(a.got, a.want) {
			out = append(out, fmt.Sprintf("%s: %s is %v, should be %v", name, a.name, a.got, a.want))
		}
	}
	return out
}

// ignore is what may differ: a path or "path:attribute".
type ignore map[string]bool

// ignored reads a case's list, "path:attribute" with directories of the path as "(dir):name".
func ignored(c testCase) ignore {
	m := ignore{}
	for _, text := range c.Ignore {
		var parts []string
		for part := range strings.SplitSeq(text, ":") {
			if part != "(dir)" {
				parts = append(parts, part)
			}
		}
		n := len(parts) - 1
		if n > 0 && slices.Contains([]string{"mtime", "mode", "uid", "gid", "size"}, parts[n]) {
			m[strings.Join(parts[:n], "/")+":"+parts[n]] = true
		} else {
			m[strings.Join(parts, "/")] = true
		}
	}
	return m
}

func (m ignore) has(name, attribute string) bool {
	if attribute != "" {
		return m[name+":"+attribute]
	}
	top, _, _ := strings.Cut(name, "/")
	return m[name] || slices.Contains([]string{"etc", "dev", "proc", "sys", "run"}, top)
}

// compareConfig compares what a container's behaviour hangs on.
func compareConfig(want, got map[string]any) []string {
	var out []string
	for _, key := range []string{"Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "OnBuild",
		"StopSignal", "Shell", "Healthcheck", "Labels"} {
		w, g := canonical(key, want[key]), canonical(key, got[key])
		if w != g {
			out = append(out, fmt.Sprintf("config: %s is %s, should be %s", key, g, w))
		}
	}
	return out
}

// canonical is a value as text, empty for every kind of nothing.
func canonical(key string, v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case []any:
		if len(x) == 0 {
			return ""
		}
		if key == "Env" { // a set
			x = slices.SortedFunc(slices.Values(x), func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		v = x
	case map[string]any:
		x = maps.Clone(x)
		delete(x, "io.buildah.version")
		if len(x) == 0 {
			return ""
		}
		v = x
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
