package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxSize bounds the file in bytes.
const maxSize = 1 << 20

// Problem is one thing wrong with a configuration.
type Problem struct {
	File string
	Line int    // 0 where it is not in the file
	Key  string // "auth.rules[0].allow"; empty for the file as a whole
	Text string
}

func (p Problem) Error() string {
	s := p.File
	if p.Line > 0 {
		s = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	for _, part := range []string{p.Key, p.Text} {
		if part == "" {
			continue
		}
		if s != "" {
			s += ": "
		}
		s += part
	}
	return s
}

// Problems is everything that is wrong with a configuration, in order of line.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, q := range p {
		lines[i] = q.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each on its own.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i, q := range p {
		errs[i] = q
	}
	return errs
}

// Load reads the file at path; paths in it are relative to its folder. Errors: Problems, or that of reading.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(path, data)
	c.resolve(filepath.Dir(path))
	return c, err
}

// Parse reads a configuration called name. Errors: Problems.
func Parse(name string, data []byte) (Config, error) {
	c, lines, problems := parse(data)
	if len(problems) == 0 {
		problems = c.check(lines)
	}
	if len(problems) == 0 {
		return c, nil
	}
	for i := range problems {
		problems[i].File = name
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return Config{}, problems
}

// Check examines a configuration that did not come from a file alone: flags changed it.
// Errors: Problems.
func (c Config) Check() error {
	if p := c.check(nil); len(p) > 0 {
		return p
	}
	return nil
}

func parse(data []byte) (Config, map[string]int, Problems) {
	if len(data) > maxSize {
		return Config{}, nil, Problems{{Text: fmt.Sprintf("longer than %d bytes", maxSize)}}
	}
	var docs []yaml.Node
	for dec := yaml.NewDecoder(strings.NewReader(string(data))); ; {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Config{}, nil, Problems{syntax(err)}
		}
		if docs = append(docs, doc); len(docs) > 1 {
			return Config{}, nil, Problems{{Line: doc.Line, Text: "a second document; one file is one configuration"}}
		}
	}
	c := Default()
	d := &decoder{lines: map[string]int{}}
	if len(docs) == 1 && len(docs[0].Content) == 1 {
		d.decode(docs[0].Content[0], reflect.ValueOf(&c).Elem(), "")
	}
	if d.nodes > maxNodes {
		d.problems = Problems{{Text: fmt.Sprintf("more than %d values", maxNodes)}}
	}
	c.fill()
	return c, d.lines, d.problems
}

// syntax is an error of the YAML parser, with its line as ours have it.
func syntax(err error) Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var p Problem
	fmt.Sscanf(text, "line %d", &p.Line)
	if _, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(text, "line ") {
		text = rest
	}
	p.Text = "not YAML: " + text
	return p
}
