package servertest

import (
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Case is one conversation with a fresh server.
type Case struct {
	name  string
	needs []string // what the registry must be able to do; with "option": how the server is set
	steps []step
}

func (c Case) option(name string) bool { return slices.Contains(c.needs, "option:"+name) }

// step is a request and what must come back, or content to be pushed first.
type step struct {
	pos    string   // file:line
	push   []string // fixture, repository, tag
	method string
	path   string
	header []string // "Name: value"
	body   string
	want   []string // lines after "<"
}

// load reads all cases. A file looks so:
//
//	# name of a case [needs] [option:name]
//	! push image app 1
//	> GET /v2/app/manifests/1
//	> Accept: text/plain
//	>
//	> a body, to the last line that begins so
//	< 200 CODE
//	< Name: value
//	< !Name
//	< body: all of it
//	< body has: a part of it
//	< save loc Location
//
// {name} stands for a fixture or for what was saved.
func load(t testing.TB) (cases []Case) {
	err := fs.WalkDir(files, "cases", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		if err == nil {
			cases = append(cases, parseCases(t, path, string(data))...)
		}
		return err
	})
	if err != nil || len(cases) == 0 {
		t.Fatalf("cases: %d, %v", len(cases), err)
	}
	return cases
}

func parseCases(t testing.TB, file, text string) (cases []Case) {
	var body bool
	for i, line := range strings.Split(text, "\n") {
		pos := file + ":" + strconv.Itoa(i+1)
		kind, rest, _ := strings.Cut(line, " ")
		if kind == "#" {
			name, needs, _ := strings.Cut(rest, " [")
			cases = append(cases, Case{name: name, needs: strings.Fields(strings.NewReplacer("[", "", "]", " ").Replace(needs))})
			continue
		}
		if line == "" {
			continue
		}
		if len(cases) == 0 {
			t.Fatalf("%s: no case yet", pos)
		}
		c := &cases[len(cases)-1]
		if kind == "!" {
			words := strings.Fields(rest)
			c.steps = append(c.steps, step{pos: pos, push: words[1:]})
			continue
		}
		last := len(c.steps) - 1
		switch {
		case kind == ">" && (last < 0 || c.steps[last].method == "" || len(c.steps[last].want) > 0):
			s := step{pos: pos}
			s.method, s.path, _ = strings.Cut(rest, " ")
			c.steps = append(c.steps, s)
			body = false
		case kind == ">" && rest == "" && !body:
			body = true
		case kind == ">" && body:
			if c.steps[last].body != "" {
				rest = "\n" + rest
			}
			c.steps[last].body += rest
		case kind == ">":
			c.steps[last].header = append(c.steps[last].header, rest)
		case kind == "<" && last >= 0:
			c.steps[last].want = append(c.steps[last].want, rest)
		default:
			t.Fatalf("%s: what is %q?", pos, line)
		}
	}
	return cases
}
