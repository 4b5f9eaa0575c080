package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every workload runs, of a size that takes no time, with nacre alone; what it found is in the page.
func TestWorkloads(t *testing.T) {
	t.Chdir("..")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o := options{
		nacre: filepath.Join(dir, "nacre"), dir: dir, report: filepath.Join(dir, "page.md"),
		workloads: []string{"ALL", "CURVES"}, rounds: map[string]int{"": 1}, scale: 0.002,
	}
	cmd := exec.Command("go", "build", "-o", o.nacre, "./cmd/nacre")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := run(o); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(o.report)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sectionNames() {
		_, section, _ := strings.Cut(string(page), "<!-- "+name+" -->\n")
		section, _, _ = strings.Cut(section, "<!-- end of "+name+" -->\n")
		if !strings.Contains(section, "| nacre") && !strings.Contains(section, " ms |") {
			t.Errorf("%s: no figures: %q", name, section)
		}
	}
}

// Another run of one workload leaves alone what is written by hand and the other sections.
func TestPageKeepsText(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	by := "# Benchmarks\n\nBy hand.\n\n## W3: x\n\n<!-- W3 -->\nold\n<!-- end of W3 -->\n\n### What the time is spent on\n\nMuch.\n\n## Registry\n\n<!-- R -->\nold\n<!-- end of R -->\n"
	if err := os.WriteFile(page, []byte(by), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, title := range map[string]string{"W3": "W3: another title", "W5": "W5: y"} {
		if err := writeSection(page, name, title, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(by, "<!-- W3 -->\nold", "<!-- W3 -->\nnew", 1)
	want = strings.Replace(want, "## Registry", "## W5: y\n\n<!-- W5 -->\nnew\n<!-- end of W5 -->\n\n## Registry", 1)
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// Growth is the power a cost goes with, from one point to the next that was measured.
func TestGrowth(t *testing.T) {
	c := curve{works: []string{"square", "constant"}}
	at := func(square, constant time.Duration) []cost {
		return []cost{{wall: square, cpu: square}, {wall: constant, cpu: constant}}
	}
	rows := c.rows([]int{1, 10, 100}, [][]cost{at(1, 7), at(0, 7), at(10_000, 7)})
	var got []string
	for _, r := range rows {
		got = append(got, r[0]+" "+r[1]+" "+r[5])
	}
	want := []string{"square 1 ", "square 100 2.00", "constant 1 ", "constant 10 0.00", "constant 100 0.00"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRounds(t *testing.T) {
	rounds, err := parseRounds("7,w2=3")
	o := options{rounds: rounds}
	if err != nil || o.roundsOf("W2") != 3 || o.roundsOf("W3") != 7 {
		t.Errorf("%v, %v", rounds, err)
	}
	for _, bad := range []string{"", "0", "x", "5,W2"} {
		if _, err := parseRounds(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// What a process of ours used arrives in the figures: a child's, too.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	place = dir
	c, err := measure(exec.Command("sh", "-c", "head -c 20000000 /dev/zero > "+dir+"/f; sha256sum "+dir+"/f; true"), 0)
	if err != nil || c.wall <= 0 || c.disk < c.wall || c.cpu <= 0 || c.rss <= 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := measure(exec.Command("sh", "-c", "echo why >&2; exit 3"), 0); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a command that fails: %v", err)
	}
}
