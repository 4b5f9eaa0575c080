package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadBuild: what is wrong with a build is said with its place, and nothing else is said.
func TestBadBuild(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for _, c := range []struct {
		name       string
		dockerfile string
		args       []string
		want       []string // each must match standard error
	}{
		{"unknown instruction", "FROM busybox\nRUNN make\n", nil,
			[]string{`Dockerfile:2`, `(?i)unknown instruction: RUNN`, `(?m)RUNN make$`, `(?i)did you mean RUN\?`}},
		{"unknown flag", "FROM busybox\n\nCOPY --frm=a b c\n", nil, []string{`Dockerfile:3`, `COPY --frm=a b c`, `--?from`}},
		{"column", "FROM busybox\nRUN true\nHEALTHCHECK --interval=soon CMD true\n", nil, []string{`Dockerfile:3`, `soon`, `(?m)\^`}},
		{"missing arguments", "FROM busybox\nCOPY alone\n", nil, []string{`Dockerfile:2`, `COPY`, `(?i)at least two arguments`}},
		{"empty", "# nothing\n", nil, []string{`(?i)Dockerfile.*(empty|no (instructions|stage))|no build stage|file with no instructions`}},
		{"no FROM", "RUN true\n", nil, []string{`Dockerfile:1`, `(?i)no build stage|FROM`}},
		{"unterminated heredoc", "FROM busybox\nRUN <<EOF\necho a\n", nil, []string{`Dockerfile:2`, `(?i)heredoc`}},
		{"bad JSON array falls to the shell", "FROM busybox\nSHELL [\"/bin/sh\"\n", nil, []string{`Dockerfile:2`, `JSON`}},
		{"missing file", "FROM busybox\nCOPY gone.txt /\n", nil, []string{`Dockerfile:2`, `gone\.txt`, `(?i)not found|no such file`}},
		{"file of an ignored name", "FROM busybox\nCOPY secret.txt /\n", nil, []string{`Dockerfile:2`, `secret\.txt`, `\.dockerignore`}},
		{"outside of the context", "FROM busybox\nCOPY ../outside /\n", nil, []string{`Dockerfile:2`, `outside`}},
		{"through a link out of the context", "FROM busybox\nCOPY out/shadow /\n", nil, []string{`Dockerfile:2`, `out`}},
		{"unknown stage", "FROM busybox AS builder\nFROM busybox\nCOPY --from=bulder /a /b\n", nil,
			[]string{`Dockerfile:3`, `bulder`, `(?i)did you mean (stage )?"?builder`}},
		{"unknown target", "FROM busybox AS one\n", []string{"--target", "onne"}, []string{`onne`, `(?i)did you mean "?one`}},
		{"stage from the future", "FROM busybox AS a\nCOPY --from=b /x /x\nFROM a AS b\n", nil, []string{`Dockerfile:[23]`, `(?i)circular|not found`}},
		{"itself", "FROM busybox AS a\nCOPY --from=a /x /x\n", nil, []string{`Dockerfile:2`, `(?i)circular|itself`}},
		{"unknown base", "FROM nobody/has-this:1\n", nil, []string{`Dockerfile:1`, `nobody/has-this:1`}},
		{"unknown user", "FROM busybox\nUSER nobodyknows\nRUN true\n", nil, []string{`Dockerfile:[23]`, `nobodyknows`}},
		{"unknown owner", "FROM busybox\nCOPY --chown=nobodyknows a /a\n", nil, []string{`Dockerfile:2`, `nobodyknows`}},
		{"bad mode", "FROM busybox\nCOPY --chmod=rwx a /a\n", nil, []string{`Dockerfile:2`, `rwx`}},
		{"bad port", "FROM busybox\nEXPOSE 99999999\n", nil, []string{`Dockerfile:2`, `99999999`}},
		{"bad signal", "FROM busybox\nSTOPSIGNAL SIGNOPE\n", nil, []string{`Dockerfile:2`, `SIGNOPE`}},
		{"required variable", "FROM busybox\nARG V\nRUN true\nENV A=${V:?say which version}\n", nil, []string{`Dockerfile:4`, `say which version`}},
		{"required secret", "FROM busybox\nRUN --mount=type=secret,id=key,required true\n", nil, []string{`Dockerfile:2`, `key`, `--secret`}},
		{"server that is not there", "FROM scratch\nADD http://127.0.0.1:1/a /a\n", nil, []string{`Dockerfile:2`, `127.0.0.1:1`, `refused`}},
		{"required device", "FROM busybox\nRUN --device=vendor.com/device,required true\n", nil, []string{`Dockerfile:2`, `(?i)device`}},
		{"no such program", "FROM busybox\nRUN [\"/bin/nope\"]\n", nil, []string{`Dockerfile:2`, `/bin/nope`, `127`}},
		{"not a program", "FROM busybox\nCOPY a /a\nRUN [\"/a\"]\n", nil, []string{`Dockerfile:3`, `126`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeFiles(t, map[string]string{"ctx/Dockerfile": c.dockerfile, "ctx/a": "a", "ctx/b": "b",
				"ctx/secret.txt": "s", "ctx/.dockerignore": "secret.txt\n", "outside": "o"})
			if err := os.Symlink("/etc", dir+"/ctx/out"); err != nil {
				t.Fatal(err)
			}
			text := s.fails(t, 1, c.want, append(append([]string{"build", "-q", "-t", "broken"}, c.args...), dir+"/ctx")...)
			if n := strings.Count(text, "error:"); n > 1 {
				t.Errorf("it is said %d times:\n%s", n, text)
			}
			if lines := strings.Count(text, "\n"); lines > 20 {
				t.Errorf("%d lines to say it:\n%s", lines, text)
			}
		})
	}
	if r := s.run(t, "inspect", "broken"); r.code == 0 {
		t.Errorf("a failed build gave its image: %v", r)
	}
	s.check(t)
}

func TestMissingContext(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir := t.TempDir()
	s.fails(t, 1, []string{`nowhere`, `(?i)no such file`}, "build", filepath.Join(dir, "nowhere"))
	s.fails(t, 1, []string{`Dockerfile`, `(?i)no (such file|Dockerfile)`}, "build", dir)
	s.fails(t, 1, []string{`other\.df`, `(?i)no (such file|Dockerfile)`}, "build", "-f", filepath.Join(dir, "other.df"), dir)
	file := filepath.Join(dir, "file")
	os.WriteFile(file, []byte("FROM scratch\n"), 0o644)
	s.fails(t, 1, []string{`(?i)not a directory`}, "build", file)
	s.fails(t, 1, []string{`No such image: nothing`}, "history", "nothing")
}

// TestFailedStep: a step that fails shows where it stands, what it printed last and how
// it ended; what went well before it stays cached.
func TestFailedStep(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	dir := writeFiles(t, map[string]string{"Dockerfile": `FROM busybox
RUN echo fine > /fine
RUN for i in $(seq 1 100); do echo "line $i"; done; \
    echo "the last words" >&2; \
    exit 42
`})
	text := s.fails(t, 1, []string{`Dockerfile:3`, `exit code: 42`, `the last words`, `line 100`}, "build", "-t", "x", "--progress", "plain", dir)
	// The tail is told again at the end, after the log itself.
	if strings.Count(text, "the last words") < 3 { // in the step's name, its log, the tail
		t.Errorf("the tail is not repeated:\n%s", text)
	}
	os.WriteFile(dir+"/Dockerfile", []byte("FROM busybox\nRUN echo fine > /fine\nRUN true\n"), 0o644)
	s.build(t, "x", dir).hit(t, "RUN echo fine > /fine")

	t.Run("killed", func(t *testing.T) {
		dir := writeFiles(t, map[string]string{"Dockerfile": "FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n"})
		s.fails(t, 1, []string{`Dockerfile:2`, `137`}, "build", dir)
	})
	t.Run("beside a running one", func(t *testing.T) {
		dir := writeFiles(t, map[string]string{"Dockerfile": `FROM busybox AS slow
RUN sleep 3600
FROM busybox AS bad
RUN sleep 1; exit 3
FROM scratch
COPY --from=slow /etc /
COPY --from=bad /etc /
`})
		r := s.run(t, "build", dir)
		if r.code != 1 || !strings.Contains(r.stderr, "exit code: 3") {
			t.Errorf("one failed step ends them all: %v", r)
		}
	})
}
