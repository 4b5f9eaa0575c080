package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

const pageHead = `# Benchmarks
`

// writeSection puts the tables of a workload into the page: between its two marks, in place of
// what an earlier run found. All else in the page is written by hand and stays. A section that
// is not there yet comes before the first that is to stand behind it.
func writeSection(page, name, title, tables string) error {
	text, err := os.ReadFile(page)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte(pageHead), nil
	}
	if err != nil {
		return err
	}
	begin, end := []byte("<!-- "+name+" -->\n"), []byte("<!-- end of "+name+" -->\n")
	i, j := bytes.Index(text, begin), bytes.Index(text, end)
	section := slices.Concat(begin, []byte(tables), end)
	if i >= 0 && j > i {
		text = slices.Concat(text[:i], section, text[j+len(end):])
	} else {
		at := placeOf(text, name)
		text = slices.Concat(text[:at], []byte("## "+title+"\n\n"), section, []byte("\n"), text[at:])
	}
	return os.WriteFile(page, text, 0o644)
}

// placeOf is where the heading of a new section goes.
func placeOf(text []byte, name string) int {
	order := sectionNames()
	for _, later := range order[slices.Index(order, name)+1:] {
		mark := bytes.Index(text, []byte("<!-- "+later+" -->\n"))
		if mark < 0 {
			continue
		}
		if heading := bytes.LastIndex(text[:mark], []byte("\n## ")); heading >= 0 {
			return heading + 1
		}
		return mark
	}
	return len(text)
}

// sectionNames are all there may be, in order.
func sectionNames() (names []string) {
	for _, w := range workloads {
		names = append(names, w.name)
	}
	names = append(names, registryWorkload)
	for _, c := range curves {
		names = append(names, c.name)
	}
	return names
}

// machine says when and where.
func machine() string {
	data, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version, _, _ := strings.Cut(strings.TrimSpace(string(data)), "-")
	cpu := "processors"
	info, _ := os.ReadFile("/proc/cpuinfo")
	if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(info); m != nil {
		cpu = "processors (" + strings.TrimSpace(string(m[1])) + ")"
	}
	return fmt.Sprintf("%s, %d %s, Linux %s", time.Now().Format("2 January 2006"), runtime.NumCPU(), cpu, version)
}
