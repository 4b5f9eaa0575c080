package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// manualIn has the manual command write to a folder.
func manualIn(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	root := newRoot(&app{stdout: &output{file: os.Stdout}, stderr: os.Stderr, logLevel: "info"}, []string{"manual"})
	root.SetArgs(append(append([]string{"manual"}, args...), dir))
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestManualPages: there is a page for each command, and mandoc has nothing to say about any.
func TestManualPages(t *testing.T) {
	dir := manualIn(t)
	pages, _ := filepath.Glob(dir + "/*.1")
	if len(pages) < len(commands)+len(containerVerbs) {
		t.Errorf("%d pages", len(pages))
	}
	for _, name := range []string{"nacre.1", "nacre-run.1", "nacre-image-ls.1"} {
		out, err := exec.Command("mandoc", "-T", "utf8", filepath.Join(dir, name)).CombinedOutput()
		if text := unstruck(out); err != nil || !strings.Contains(text, "NAME") || !strings.Contains(text, "nacre") || !strings.Contains(text, "EXAMPLES") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	if out, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%.3000s", err, out)
	}
}

// unstruck is what is read where letters are struck twice to be bold.
func unstruck(text []byte) string {
	for i := bytes.IndexByte(text, '\b'); i > 0; i = bytes.IndexByte(text, '\b') {
		text = append(text[:i-1:i-1], text[i+1:]...)
	}
	return string(text)
}

// TestCommandsPage: docs/commands.md says what the commands say of themselves.
func TestCommandsPage(t *testing.T) {
	have, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(manualIn(t, "--markdown"), "commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/commands.md is not what the commands say; make docs writes it anew")
	}
}
