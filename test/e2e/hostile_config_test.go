package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestHostileConfig: what an image's config says holds inside, or is refused with a reason, by run and by a RUN step.
func TestHostileConfig(t *testing.T) {
	t.Parallel()
	base, err := os.ReadFile(baseTar(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	const works = "uid=0\\(root\\)"
	for i, c := range []struct{ config, run, build string }{ // empty: it runs as root
		{`"User":"0:0:0"`, `user "0:0:0": unable to find group`, `Dockerfile:2: user "0:0:0"`},
		{`"User":":"`, "", ""},
		{`"User":"-1"`, `must be in range`, `must be in range`},
		{`"User":"4294967295"`, `must be in range`, `must be in range`},
		{`"User":"4294967296:0"`, `must be in range`, `must be in range`},
		{`"User":"0x0"`, `unable to find user 0x0`, `unable to find user`},
		{`"User":"root\u0000x"`, `unable to find user root.x`, `unable to find user`},
		{`"WorkingDir":"rel/../../.."`, `is not absolute`, ""},
		{`"WorkingDir":"/a\u0000b"`, `has a NUL in it`, `has a NUL in it`},
		{`"WorkingDir":"/` + strings.Repeat("a/", 3000) + `"`, `enter working directory .*: file name too long`, `file name too long`},
		{`"WorkingDir":"/../../../../../tmp/../made/../here"`, "", ""},
		{`"Env":["A=x\u0000y"]`, `"A=x\\x00y" has a NUL in it`, `has a NUL in it`},
		{`"Env":["NOVALUE","=x","","PATH=/bin"]`, "", ""},
		{`"Env":["PATH=/bin","BIG=` + strings.Repeat("x", 200_000) + `"]`, `argument list too long`, `exit code: 126`},
		{`"Entrypoint":["id\u0000"]`, `has a NUL in it`, ""},
		{`"Entrypoint":[""]`, `exec "": executable file not found`, ""},
		{`"StopSignal":"SIGNOPE"`, `Invalid signal: SIGNOPE`, ""},
		{`"Volumes":{"../x":{}}`, `mount path must be absolute`, ""},
		{`"Volumes":{"/":{}}`, `.`, ""},
		{`"Volumes":{"/a\u0000b":{}}`, `NUL`, ""},
		{`"Volumes":{"/proc":{}}`, `.`, ""},
		{`"ExposedPorts":{"99999/tcp":{},"x":{},"80/sctp\u001b":{}}`, "", ""},
		{`"Healthcheck":{"Test":["NOPE","x"],"Interval":-5,"Retries":-1}`, "", ""},
		{`"Healthcheck":{"Test":["CMD"],"Interval":1}`, "", ""},
		{`"Labels":{"a\u0000b":"\u001b[2J","":"y"}`, "", ""},
		{`"OnBuild":["FROM x"]`, "", `FROM isn't allowed as an ONBUILD trigger`},
		{`"OnBuild":["\u0000"]`, "", `.`},
	} {
		config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{%s},"rootfs":{"type":"layers","diff_ids":["%s"]}}`, c.config, digestOf(base))
		name := fmt.Sprint("image", i)
		archive := tarOf(t, file("c.json", config), file("l.tar", string(base)), file("manifest.json", `[{"Config":"c.json","RepoTags":["`+name+`:latest"],"Layers":["l.tar"]}]`))
		dir := writeFiles(t, map[string]string{"image.tar": string(archive), "Dockerfile": "FROM " + name + "\nRUN [\"/bin/id\"]\n"})
		s.ok(t, "load", "-q", "-i", dir+"/image.tar")
		for what, r := range map[string]result{
			c.run:   s.run(t, "run", "--rm", "--network", "none", name, "/bin/id"),
			c.build: s.run(t, "build", "--progress", "plain", "--no-cache", dir),
		} {
			shown := r.args[0] + " of " + fmt.Sprintf("%.80s", c.config)
			switch all := r.stdout + r.stderr; {
			case strings.ContainsAny(all, "\x00\x1b"):
				t.Errorf("%s: control characters: %q", shown, all)
			case what == "" && (r.code != 0 || !regexp.MustCompile(works).MatchString(all)):
				t.Errorf("%s: %v", shown, r)
			case what != "" && (r.code == 0 || !regexp.MustCompile(what).MatchString(r.stderr)):
				t.Errorf("%s: %q is wanted: %v", shown, what, r)
			}
		}
		s.ok(t, "rmi", "-f", name)
	}
	s.check(t)
}
