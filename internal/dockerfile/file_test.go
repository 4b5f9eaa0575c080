package dockerfile_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nacre/internal/dockerfile"
)

var update = flag.Bool("update", false, "write what comes out into the golden files")

func TestParse(t *testing.T) {
	const text = "\ufeff# syntax = docker/dockerfile:1.7-labs@sha256:" + "0000 more\r\n# escape=`\r\n# check=skip=JSONArgsRecommended;error=true\r\n" +
		"ARG A=1\r\nFROM a AS One\r\nRUN x `\r\n  y\r\nfrom scratch\r\nCOPY . C:\\\r\n"
	f, err := dockerfile.Parse("Dockerfile.win", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if f.Escape != '`' || f.Syntax != "docker/dockerfile:1.7-labs@sha256:0000" {
		t.Errorf("escape %q, syntax %q", f.Escape, f.Syntax)
	}
	if !f.Check.ReturnAsError || len(f.Check.SkipRules) != 1 {
		t.Errorf("check %+v", f.Check)
	}
	if len(f.MetaArgs) != 1 || len(f.Stages) != 2 || f.Stages[0].Name != "one" {
		t.Fatalf("ARGs %v, stages %+v", f.MetaArgs, f.Stages)
	}
	if pos := f.Pos(f.Stages[0].Commands[0].Location()); pos != "Dockerfile.win:6" {
		t.Errorf("RUN is at %s", pos)
	}
	want := []dockerfile.Warning{{
		Rule: "StageNameCasing", Pos: "Dockerfile.win:5", Text: "Stage name 'One' should be lowercase",
		URL: "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
	}}
	if diff := cmp.Diff(want, f.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestSyntax(t *testing.T) {
	for name, ok := range map[string]bool{
		"docker/dockerfile":                             true,
		"docker/dockerfile:1":                           true,
		"docker.io/docker/dockerfile-upstream:master":   true,
		"mirror.example:5000/hub/docker/dockerfile:1.4": true,
		"docker/dockerfile@sha256:00":                   true,
		"dockerfile":                                    false,
		"notdocker/dockerfile":                          false,
		"docker/dockerfile-x:1":                         false,
		"example.com/frontend":                          false,
	} {
		_, err := dockerfile.Parse("Dockerfile", []byte("#syntax="+name+"\nFROM scratch\n"))
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestErrors: each error's text, hint and the place it shows.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text, want, ok := strings.Cut(string(data), "=====\n")
			if !ok {
				t.Fatal("no ===== between Dockerfile and error")
			}
			_, err = dockerfile.Parse("Dockerfile", []byte(text))
			got := show(t, err)
			if *update {
				if err := os.WriteFile(name, []byte(text+"=====\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func show(t *testing.T, err error) string {
	t.Helper()
	e, ok := errors.AsType[*dockerfile.Error](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	s := fmt.Sprintf("%s\n%s", e, e.Detail())
	if e.Hint != "" {
		s += "hint: " + e.Hint + "\n"
	}
	return s
}

// TestErrorsOfBytes: what cannot well be in a text file.
func TestErrorsOfBytes(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ text, want string }{
		{"", "Dockerfile: the file is empty\n"},
		{" \n\t", "Dockerfile: the file is empty\n"},
		{"\xff\xfeF\x00R\x00", "Dockerfile: the file is UTF-16\nhint: save it as UTF-8\n"},
		{"# only comments\n", "Dockerfile:1: file with no instructions\n>   1 | # only comments\n      | ^\n"},
		{"ARG A", "Dockerfile: there is no stage to build\nhint: a stage begins with FROM\n"},
		{"FROM a\nRUN\x1b[31m x\x00", "Dockerfile:2: unknown instruction: RUN\ufffd[31m\n    1 | FROM a\n>   2 | RUN\ufffd[31m x\ufffd\n      | ^^^^^^^^\n"},
		{"FROM a\nCOPY " + long + " --from=a\nCOPY --form=x " + long + " /",
			"Dockerfile:3: unknown flag: --form\n    1 | FROM a\n    2 | COPY " + long[:155] + "…\n>   3 | COPY --form=x " + long[:146] + "…\n      |      ^^^^^^\nhint: did you mean --from?\n"},
		{"FROM " + strings.Repeat("a", 70000), "Dockerfile:1: the line has 70005 bytes; at most 65535 are read\n>   1 | FROM " + strings.Repeat("a", 155) + "…\n      | ^^^^\n"},
		{strings.Repeat("#", 5<<20), "Dockerfile: the file has 5242880 bytes; at most 4194304 are read\n"},
	} {
		_, err := dockerfile.Parse("Dockerfile", []byte(c.text))
		if diff := cmp.Diff(c.want, show(t, err)); diff != "" {
			t.Errorf("%.20q (-want +got):\n%s", c.text, diff)
		}
	}
}

// TestErrorAt: a place far along a long line is shown all the same.
func TestErrorAt(t *testing.T) {
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM a\n\tRUN "+strings.Repeat("é", 200)+" here and there"))
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("it is wrong (did you mean right?)")
	e := f.ErrorAt(f.Stages[0].Commands[0].Location(), "here", cause)
	if e.Column != 207 || e.Line != 2 || e.Hint != "did you mean right?" || !errors.Is(e, cause) {
		t.Errorf("%+v", e)
	}
	lines := strings.Split(e.Detail(), "\n")
	at := []rune(lines[1])
	if i := strings.Index(lines[2], "^^^^"); i < 0 || string(at[i:i+4]) != "here" {
		t.Errorf("the caret is elsewhere:\n%s", e.Detail())
	}
	if again := f.ErrorAt(nil, "", fmt.Errorf("x: %w", e)); again != e {
		t.Error("an error that has a place got another")
	}
}

func TestDidYouMean(t *testing.T) {
	options := []string{"COPY", "CMD", "ENV", "RUN"}
	for word, want := range map[string]string{
		"COPPY": "COPY", "CPOY": "COPY", "CDM": "CMD", "RUNN": "RUN", "RUN": "", "XYZZY": "", "": "", strings.Repeat("a", 1000): "",
	} {
		if want != "" {
			want = "did you mean " + want + "?"
		}
		if got := dockerfile.DidYouMean(word, options); got != want {
			t.Errorf("%.10s: got %q, want %q", word, got, want)
		}
	}
}

// FuzzParse: any bytes give a File or an error that can be shown.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/errors/*.txt")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("#escape=`\nFROM a\nRUN <<A <<-B `\n c\nA\n\tB\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := dockerfile.Parse("Dockerfile", data)
		if err == nil {
			if len(file.Stages) == 0 {
				t.Error("no stages and no error")
			}
			return
		}
		e, ok := errors.AsType[*dockerfile.Error](err)
		if !ok {
			t.Fatalf("%T", err)
		}
		if strings.Contains(e.Error(), "\n") || strings.Contains(e.Detail(), "\x1b") {
			t.Errorf("%q\n%q", e.Error(), e.Detail())
		}
		if e.Line > 0 && e.Column > 0 && !strings.Contains(e.Detail(), "^") {
			t.Errorf("%v: no caret in %q", e, e.Detail())
		}
	})
}
