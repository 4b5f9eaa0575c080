package e2e

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Bugs that other daemonless builders had, each as the build that showed it. What a RUN
// asserts is asserted inside, where a user would see it.

// TestPastImages: builds that must come out right.
func TestPastImages(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for _, c := range []struct {
		name, dockerfile string
		files            map[string]string
		args             []string
	}{
		{name: "COPY --from takes no whiteouts along", dockerfile: `
FROM busybox AS a
RUN mkdir /d && echo 1 >/d/gone && echo 2 >/d/kept && mkdir /d/o && echo 3 >/d/o/old
RUN rm /d/gone && rm -r /d/o && mkdir /d/o && echo 4 >/d/o/new
FROM busybox
RUN mkdir /d && echo mine >/d/gone
COPY --from=a /d /d
RUN [ "$(cat /d/gone)" = mine ] && [ "$(cat /d/kept)" = 2 ] && [ "$(ls -A /d/o)" = new ] && ! find / -xdev -name '.wh.*' | grep .
RUN ! find / -xdev -type c ! -path '/dev/*' | grep .`},
		{name: "a deleted directory does not come back", dockerfile: `
FROM busybox AS a
RUN mkdir -p /d/e && echo 1 >/d/e/f
RUN rm -r /d
COPY new /d/
FROM busybox
COPY --from=a /d /d
RUN [ "$(find /d | sort | tr '\n' ' ')" = "/d /d/new " ]`, files: map[string]string{"new": "x"}},
		{name: "ENV after ARG wins", dockerfile: `
FROM busybox
ARG B=arg
ENV B=env
RUN [ "$B" = env ]
ARG C=arg
ENV D=$C
ARG C=later
RUN [ "$C$D" = laterarg ]`, args: []string{"--build-arg", "B=given"}},
		{name: "ARG ends with its stage", dockerfile: `
ARG G=global
FROM busybox AS a
ARG A=one
ARG G
RUN [ "$A" = one ] && [ "$G" = global ]
FROM busybox
RUN [ -z "$A" ] && [ -z "$G" ]
FROM a
RUN [ "$A" = one ] && [ "$G" = global ]`},
		{name: "ARG is no part of the image", dockerfile: `
FROM busybox AS a
ARG A=one
FROM a AS b
RUN [ "$A" = one ]
ENV E=$A
FROM busybox
ENV E=two
COPY --from=b /bin/busybox /copied
RUN [ "$E" = two ]`},
		{name: "USER with a group", dockerfile: `
FROM busybox
RUN echo 'app:x:7:8::/:/bin/sh' >>/etc/passwd && printf 'app:x:8:\nstaff:x:9:\nextra:x:10:app\n' >>/etc/group && mkdir -m 777 /w
USER app:staff
RUN touch /w/a && [ "$(stat -c %u:%g /w/a)" = 7:9 ] && [ "$(id -G)" = 9 ]
USER app
RUN touch /w/b && [ "$(stat -c %u:%g /w/b)" = 7:8 ] && id -G | grep -qw 10
USER 7:10
RUN touch /w/c && [ "$(stat -c %u:%g /w/c)" = 7:10 ]
USER 12:13
RUN touch /w/d && [ "$(stat -c %u:%g /w/d)" = 12:13 ]`},
		{name: ".dockerignore is for the context alone", dockerfile: `
FROM busybox AS a
RUN mkdir /out && echo 1 >/out/x.log && echo 2 >/out/.dockerignore
FROM busybox
COPY --from=a /out /out
COPY . /ctx
RUN [ -f /out/x.log ] && [ -f /out/.dockerignore ] && [ ! -e /ctx/y.log ] && [ ! -e /ctx/sub/z.log ] && [ -f /ctx/sub/.dockerignore ] && [ -f /ctx/kept ]`,
			files: map[string]string{".dockerignore": "**/*.log\n", "y.log": "", "sub/z.log": "", "sub/.dockerignore": "kept\n", "kept": ""}},
		{name: "hard links stay one file", dockerfile: `
FROM busybox AS a
RUN mkdir -p /d/e && echo 1 >/d/a && ln /d/a /d/b && ln /d/a /d/e/c && ln -s a /d/l
FROM busybox
COPY --from=a /d /d
RUN [ "$(stat -c %h /d/a)" = 3 ] && [ /d/a -ef /d/b ] && [ /d/a -ef /d/e/c ] && [ -L /d/l ]
RUN echo 2 >>/d/b && ln -f /d/b /d/a && ln /d/b /n
RUN [ /d/a -ef /d/b ] && [ /n -ef /d/b ] && [ "$(tail -n1 /d/a)" = 2 ]`},
		{name: "links in the target do not lead out of it", dockerfile: `
FROM busybox
RUN mkdir -p /in/etc && ln -s /in /abs && ln -s ../../../../in /up
COPY f /abs/etc/f
COPY f /up/g
ADD f /abs/h
RUN [ -f /in/etc/f ] && [ -f /in/g ] && [ -f /in/h ] && [ -L /abs ] && [ -L /up ]`, files: map[string]string{"f": "x"}},
		{name: "a copied symlink stays one", dockerfile: `
FROM busybox AS a
RUN mkdir /d && ln -s /etc/passwd /d/l && ln -s nowhere /d/m
FROM busybox
COPY --from=a /d /d
RUN [ "$(readlink /d/l)" = /etc/passwd ] && [ "$(readlink /d/m)" = nowhere ]`},
		{name: "a heredoc is not another's", dockerfile: `
FROM busybox
COPY <<a <<b /d/
1
a
2
b
RUN <<x
echo one >/one
x
RUN <<x
echo two >/two
x
RUN [ "$(cat /d/a /d/b /one /two | tr '\n' ' ')" = "1 2 one two " ]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"ctx/Dockerfile": c.dockerfile[1:] + "\n"}
			for name, data := range c.files {
				files["ctx/"+name] = data
			}
			s.build(t, "past", writeFiles(t, files)+"/ctx", c.args...)
		})
	}
	s.check(t)
}

// TestPastKeys: what changes a step's outcome changes its key, and nothing else does.
func TestPastKeys(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	for _, c := range []struct {
		name          string
		before, after string
		args          []string // of the second build
		again         bool     // the last step must be executed again
	}{
		{"text of a heredoc", "RUN <<x\necho 1 >/f\nx", "RUN <<x\necho 2 >/f\nx", nil, true},
		{"shebang of a heredoc", "RUN <<x\n#!/bin/sh\necho 1 >/f\nx", "RUN <<x\n#!/bin/sh -e\necho 1 >/f\nx", nil, true},
		{"name of a copied heredoc", "COPY <<a /d/\n1\na", "COPY <<b /d/\n1\nb", nil, true},
		{"content of a copied heredoc", "COPY <<a /d/\n1\na", "COPY <<a /d/\n2\na", nil, true},
		{"value of an ARG", "ARG V=1\nRUN echo $V >/f", "ARG V=2\nRUN echo $V >/f", nil, true},
		{"build argument", "ARG V=1\nRUN echo $V >/f", "ARG V=1\nRUN echo $V >/f", []string{"--build-arg", "V=3"}, true},
		{"build argument without default", "ARG V\nRUN echo $V >/f", "ARG V\nRUN echo $V >/f", []string{"--build-arg", "V=3"}, true},
		{"ARG moved into the next value", "ARG A=1\nARG B=23\nRUN true", "ARG A=12\nARG B=3\nRUN true", nil, true},
		{"ENV", "ENV E=1\nRUN echo $E >/f", "ENV E=2\nRUN echo $E >/f", nil, true},
		{"user", "USER 1\nRUN id >/tmp/f", "USER 2\nRUN id >/tmp/f", nil, true},
		{"directory", "WORKDIR /tmp\nRUN pwd", "WORKDIR /root\nRUN pwd", nil, true},
		{"shell", "SHELL [\"/bin/sh\", \"-c\"]\nRUN true", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN true", nil, true},
		{"words joined", `RUN ["echo", "a b", "c"]`, `RUN ["echo", "a", "b c"]`, nil, true},
		{"names joined", "COPY ab c /d/", "COPY a bc /d/", nil, true},
		{"owner", "COPY ab /f", "COPY --chown=1 ab /f", nil, true},
		{"mode", "COPY --chmod=600 ab /f", "COPY --chmod=640 ab /f", nil, true},
		{"destination", "COPY ab /f", "COPY ab /g", nil, true},
		{"ARG nobody declared", "RUN true", "RUN true", []string{"--build-arg", "http_proxy=http://example.com"}, false},
		{"position", "RUN true", "# a comment\n\nRUN true", nil, false},
		{"config", "LABEL a=1\nRUN true", "LABEL a=2\nEXPOSE 80\nRUN true", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeFiles(t, map[string]string{"a": "1", "ab": "2", "c": "3", "bc": "4"})
			build := func(text string, args ...string) steps {
				if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM busybox\nRUN echo "+t.Name()+" >/name\n"+text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return s.build(t, "keys", dir, args...)
			}
			build(c.before)
			if first := build(c.before); executed(first) != 0 {
				t.Fatalf("the same again executes %d steps: %v", executed(first), first.result)
			}
			second := build(c.after, c.args...)
			if n := executed(second); (n > 0) != c.again {
				t.Errorf("%d steps were executed again: %v", n, second.result)
			}
		})
	}
}

// executed counts the instructions that were not taken from the cache.
func executed(s steps) int {
	n := 0
	for name, cached := range s.cached {
		if !cached && name != "" && !strings.HasPrefix(name, "[internal]") && !strings.Contains(name, "] FROM ") {
			n++
		}
	}
	return n
}

// TestPastEscapes: no name and no link, of a context or an archive, reaches this machine.
func TestPastEscapes(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("of this machine"), 0o644); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 77, Gid: 77},
		{Name: "abs", Typeflag: tar.TypeSymlink, Linkname: outside},
		{Name: "abs/planted", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "up", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("../", 20) + outside[1:]},
		{Name: "up/planted too", Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	tw.Close()
	dir := writeFiles(t, map[string]string{"a.tar": archive.String(), "f": "x",
		"Dockerfile": "FROM busybox\nRUN mkdir -m 755 /opt && ln -s " + outside + " /ln\nCOPY f /ln/copied\nADD a.tar /opt/\nADD a.tar /\n" +
			"RUN [ \"$(stat -c %a:%u /opt)\" = 755:0 ] && [ \"$(stat -c %u /)\" = 0 ] && [ -f /opt" + outside + "/planted ] && [ -f '/opt" + outside + "/planted too' ] && [ -f " + outside + "/copied ]\n"})
	s.build(t, "escapes", dir)
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("the build wrote to this machine: %v, %v", left, err)
	}
	for _, link := range []string{outside, strings.Repeat("../", 20) + outside[1:]} {
		for _, source := range []string{"ln/secret", "ln", "ln/*", "./ln/../ln/secret"} {
			dir := writeFiles(t, map[string]string{"Dockerfile": "FROM busybox\nCOPY " + source + " /got/\n"})
			if err := os.Symlink(link, filepath.Join(dir, "ln")); err != nil {
				t.Fatal(err)
			}
			if r := s.run(t, "build", "-q", "-t", "escaped", dir); r.code == 0 {
				if out := s.run(t, "run", "--rm", "escaped", "sh", "-c", "cat /got/* /got"); strings.Contains(out.stdout, "of this machine") {
					t.Errorf("COPY %s by a link to %s: %v", source, link, out)
				}
			}
		}
	}
	s.check(t)
}
