package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadme: the five minutes of README.md work as they stand there. Lines that begin with "$ " are commands, what follows one
// is what it prints; of "$ cat FILE" it is what is in the file.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("\n## Five minutes\n"))
	text, _, _ = bytes.Cut(text, []byte("\n## "))

	// What README finds at Docker Hub and registry.example.com is on this machine.
	folder := newStore(t)
	hub := folder.serve(t, "--dir", folder.root)
	base := shared.store(t, "debian")
	base.ok(t, "tag", "debian", hub.addr+"/library/debian:12")
	base.ok(t, "push", "-q", "--compression", "uncompressed", hub.addr+"/library/debian:12")
	base.ok(t, "rmi", hub.addr+"/library/debian:12")
	dir, bin, s := t.TempDir(), t.TempDir(), newStore(t)
	write(t, filepath.Join(bin, "registries.toml"), fmt.Sprintf("[host.\"docker.io\"]\nmirrors = [%q]\n", hub.addr))
	if err := os.Symlink(nacre, filepath.Join(bin, "nacre")); err != nil {
		t.Fatal(err)
	}
	port := shortPort(t)
	script := strings.NewReplacer("registry.example.com", hub.addr, "127.0.0.1:5000", "127.0.0.1:"+port).Replace(string(text))

	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+bin, "NACRE_ROOT="+s.root, "NACRE_REGISTRIES="+bin+"/registries.toml")
	ran := 0
	for _, step := range readme(script) {
		if file, ok := strings.CutPrefix(step.command, "cat "); ok {
			write(t, filepath.Join(dir, file), step.follows)
			continue
		}
		if !strings.HasPrefix(step.command, "nacre ") && !strings.HasPrefix(step.command, "echo ") {
			t.Errorf("it is not known how to try: %s", step.command)
			continue
		}
		command := step.command
		if rest, ok := strings.CutPrefix(command, "nacre build "); ok { // through this machine's proxies
			command = "nacre build '" + strings.Join(proxyArgs(), "' '") + "' " + rest
		}
		if rest, ok := strings.CutSuffix(command, " &"); ok {
			cmd := exec.Command("bash", "-c", "exec "+rest)
			cmd.Dir, cmd.Env = dir, env
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			until(t, step.command, func() bool { return exec.Command("curl", "-sf", "http://127.0.0.1:"+port+"/v2/").Run() == nil })
			continue
		}
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir, cmd.Env = dir, env
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s%s", command, err, &stdout, &stderr)
		}
		if step.follows != "" && stdout.String() != step.follows {
			t.Errorf("%s prints\n%swant\n%s", command, &stdout, step.follows)
		}
		ran++
	}
	if ran < 15 {
		t.Errorf("only %d commands were found", ran)
	}
	s.check(t)
}

// readmeStep is a command and what follows it.
type readmeStep struct{ command, follows string }

// readme finds the commands in blocks of code, which are indented by four spaces.
func readme(text string) (steps []readmeStep) {
	inBlock := false
	for line := range strings.Lines(text) {
		code, ok := strings.CutPrefix(line, "    ")
		command, isCommand := strings.CutPrefix(code, "$ ")
		switch {
		case ok && isCommand:
			steps = append(steps, readmeStep{command: strings.TrimSpace(command)})
			inBlock = true
		case ok && inBlock:
			steps[len(steps)-1].follows += code
		case strings.TrimSpace(line) == "" && inBlock && len(steps) > 0 && strings.HasPrefix(steps[len(steps)-1].command, "cat "):
			steps[len(steps)-1].follows += "\n" // within a file
		default:
			inBlock = false
		}
	}
	return steps
}
