package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// brokenFile is a Dockerfile that does not build, and what is said of it. Text stands below two lines
// that are fine, but after "first:".
type brokenFile struct {
	text string
	line int
	says string
	hint string
}

// brokenFiles are what people get wrong, for every instruction and every flag.
var brokenFiles = []brokenFile{
	{"RUNN make", 3, "unknown instruction: RUNN", "did you mean RUN?"},
	{"first:FRM scratch", 1, "unknown instruction: FRM", "did you mean FROM?"},
	{"ARG", 3, "ARG requires at least one argument", "want ARG NAME[=DEFAULT]..."},
	{"ENV", 3, "ENV requires at least one argument", "want ENV NAME=VALUE..."},
	{"ENV A", 3, "ENV must have two arguments", "want ENV NAME=VALUE..."},
	{"ENV =x", 3, "ENV names can not be blank", "want ENV NAME=VALUE..."},
	{"ENV A=1 B", 3, "Syntax error - can't find = in \"B\". Must be of the form: name=value", "want ENV NAME=VALUE..."},
	{"LABEL", 3, "LABEL requires at least one argument", "want LABEL KEY=VALUE..."},
	{"LABEL a", 3, "LABEL must have two arguments", "want LABEL KEY=VALUE..."},
	{"LABEL =x", 3, "LABEL names can not be blank", "want LABEL KEY=VALUE..."},
	{"LABEL a='x", 3, "failed to process \"'x\": unexpected end of statement while looking for matching single-quote", "a quote within a value is written \\\" or \\'"},
	{"MAINTAINER", 3, "MAINTAINER requires exactly one argument", "want MAINTAINER NAME"},
	{"RUN []", 3, "RUN needs a command", ""},
	{"RUN --mont=type=bind true", 3, "unknown flag: --mont", "did you mean --mount?"},
	{"RUN --mount=type=bnd,target=/x true", 3, "unsupported mount type \"bnd\"", "did you mean bind?"},
	{"RUN --mount=type=bind true", 3, "a mount of type bind needs a target", "add target=PATH"},
	{"RUN --mount=target=/x,from=$A true", 3, "'from' doesn't support variable expansion, define alias stage instead", ""},
	{"RUN --mount=type=cache true", 3, "a mount of type cache needs a target", "add target=PATH"},
	{"RUN --mount=type=cache,target=/c,sharing=share true", 3, "unsupported sharing value \"share\"", "did you mean shared?"},
	{"RUN --mount=type=cache,target=/c,mode=abc true", 3, "invalid value abc for mode", "a mode is an octal number, such as 0755"},
	{"RUN --mount=type=cache,target=/c,uid=me true", 3, "invalid value me for uid", "a user is a number here"},
	{"RUN --mount=type=tmpfs true", 3, "a mount of type tmpfs needs a target", "add target=PATH"},
	{"RUN --mount=type=tmpfs,target=/x,size=big true", 3, "invalid value for size: big", "a size is a number of bytes, or of k, m or g"},
	{"RUN --mount=type=secret true", 3, "invalid secret mount. one of source, target required", "add id=ID"},
	{"RUN --mount=type=secret,id=x,required=maybe true", 3, "invalid value for required: maybe", "want true or false"},
	{"RUN --mount=type=secret,id=x,mode=999 true", 3, "invalid value 999 for mode", "a mode is an octal number, such as 0755"},
	{"RUN --mount=type=ssh,mode=x true", 3, "invalid value x for mode", "a mode is an octal number, such as 0755"},
	{"RUN --mount=type=bind,target=/x,targte=/y true", 3, "unexpected key 'targte' in 'targte=/y'", "did you mean target?"},
	{"RUN --mount=type=bind,target=/x,from=nostage true", 3, "nostage: ", ""},
	{"RUN --mount=target true", 3, "invalid field 'target' must be a key=value pair", "want KEY=VALUE pairs with commas between them, such as type=bind,target=/src"},
	{"RUN --mount=type=tmpfs,target=/ true", 3, "invalid mount target \"/\"", "want a path below the root"},
	{"RUN --mount= true", 3, "failed to parse csv mounts: EOF", "want KEY=VALUE pairs with commas between them, such as type=bind,target=/src"},
	{"RUN --network=nine true", 3, "invalid network mode \"nine\"", "did you mean none?"},
	{"RUN --network true", 3, "missing a value on flag: --network", "write --network=VALUE"},
	{"RUN --netwrok=none true", 3, "unknown flag: --netwrok", "did you mean --network?"},
	{"RUN --security=none true", 3, "security \"none\" is not valid", "want sandbox or insecure"},
	{"RUN --security=insecure true", 3, "RUN --security=insecure is not allowed: build with --allow security.insecure", ""},
	{"RUN --device true", 3, "missing a value on flag: --device", "write --device=VALUE"},
	{"RUN <<EOF\necho", 3, "unterminated heredoc", "a line of EOF alone ends it"},
	{"RUN <<../x\n#!/bin/sh\n../x", 3, "heredoc \"../x\" cannot be the name of a file", ""},
	{"CMD [1]", 3, "when using JSON array syntax, arrays must be comprised of strings only", "every element is in double quotes: [\"a\", \"1\"]"},
	{"EXPOSE", 3, "EXPOSE requires at least one argument", "want EXPOSE PORT[/tcp|/udp]..."},
	{"EXPOSE http", 3, "invalid containerPort: http: a port is a number from 0 to 65535", ""},
	{"EXPOSE 99999", 3, "invalid containerPort: 99999: a port is a number from 0 to 65535", ""},
	{"EXPOSE 9-8", 3, "invalid containerPort: 9-8: the range ends before it begins", ""},
	{"EXPOSE 80/icmp", 3, "invalid port: \"80/icmp\": invalid proto: icmp", "want tcp, udp or sctp"},
	{"EXPOSE 1:2:3:4", 3, "invalid IP address: 1:2", ""},
	{"VOLUME", 3, "VOLUME requires at least one argument", "want VOLUME PATH..."},
	{"VOLUME [\"\"]", 3, "VOLUME specified can not be an empty string", "want VOLUME PATH..."},
	{"VOLUME $A", 3, "VOLUME specified can not be an empty string", "want VOLUME PATH..."},
	{"USER", 3, "USER requires exactly one argument", "want USER NAME[:GROUP]"},
	{"WORKDIR", 3, "WORKDIR requires exactly one argument", "want WORKDIR PATH"},
	{"STOPSIGNAL", 3, "STOPSIGNAL requires exactly one argument", "want STOPSIGNAL SIGNAL"},
	{"STOPSIGNAL SIGNO", 3, "invalid signal: SIGNO", "want a name such as SIGTERM, or a number from 1 to 64"},
	{"STOPSIGNAL 0", 3, "invalid signal: 0", "want a name such as SIGTERM, or a number from 1 to 64"},
	{"STOPSIGNAL 1 2", 3, "invalid signal: 1 2", "want a name such as SIGTERM, or a number from 1 to 64"},
	{"SHELL", 3, "SHELL requires at least one argument", "want SHELL [\"/bin/bash\", \"-c\"]"},
	{"SHELL bash", 3, "SHELL requires the arguments to be in JSON form", "want SHELL [\"/bin/bash\", \"-c\"]"},
	{"SHELL []", 3, "SHELL requires at least one argument", "want SHELL [\"/bin/bash\", \"-c\"]"},
	{"HEALTHCHECK", 3, "HEALTHCHECK requires at least one argument", "want HEALTHCHECK [FLAG...] CMD COMMAND, or HEALTHCHECK NONE"},
	{"HEALTHCHECK NONE x", 3, "HEALTHCHECK NONE takes no arguments", "want HEALTHCHECK [FLAG...] CMD COMMAND, or HEALTHCHECK NONE"},
	{"HEALTHCHECK CMD", 3, "Missing command after HEALTHCHECK CMD", "want HEALTHCHECK [FLAG...] CMD COMMAND, or HEALTHCHECK NONE"},
	{"HEALTHCHECK RUN x", 3, "Unknown type \"RUN\" in HEALTHCHECK (try CMD)", "want HEALTHCHECK [FLAG...] CMD COMMAND, or HEALTHCHECK NONE"},
	{"HEALTHCHECK --interval=x CMD a", 3, "time: invalid duration \"x\"", "a duration is like 30s or 1m30s"},
	{"HEALTHCHECK --interval=1us CMD a", 3, "Interval \"interval\" cannot be less than 1ms", "a duration is like 30s or 1m30s"},
	{"HEALTHCHECK --timeout=-1s CMD a", 3, "Interval \"timeout\" cannot be less than 1ms", "a duration is like 30s or 1m30s"},
	{"HEALTHCHECK --start-period=5 CMD a", 3, "time: missing unit in duration \"5\"", "a duration is like 30s or 1m30s"},
	{"HEALTHCHECK --start-interval=q CMD a", 3, "time: invalid duration \"q\"", "a duration is like 30s or 1m30s"},
	{"HEALTHCHECK --retries=x CMD a", 3, "\"x\" is not a number", "want a number, such as 3"},
	{"HEALTHCHECK --retries=-1 CMD a", 3, "--retries cannot be negative (-1)", ""},
	{"HEALTHCHECK --retry=1 CMD a", 3, "unknown flag: --retry", "did you mean --retries?"},
	{"ONBUILD", 3, "ONBUILD requires at least one argument", "want ONBUILD INSTRUCTION"},
	{"ONBUILD FROM x", 3, "FROM isn't allowed as an ONBUILD trigger", "all but FROM, ONBUILD and MAINTAINER may follow ONBUILD"},
	{"ONBUILD ONBUILD RUN x", 3, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", ""},
	{"ONBUILD MAINTAINER x", 3, "MAINTAINER isn't allowed as an ONBUILD trigger", "all but FROM, ONBUILD and MAINTAINER may follow ONBUILD"},
	{"COPY", 3, "COPY requires at least two arguments, but only one was provided. Destination could not be determined", "want COPY [FLAG...] SOURCE... DEST"},
	{"COPY a", 3, "COPY requires at least two arguments, but only one was provided. Destination could not be determined", "want COPY [FLAG...] SOURCE... DEST"},
	{"COPY --form=x a /", 3, "unknown flag: --form", "did you mean --from?"},
	{"COPY --from=$A a /", 3, "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround", ""},
	{"COPY --from=7 a /", 3, "invalid stage index 7: there are stages 0 to 0", ""},
	{"COPY --from=-1 a /", 3, "invalid stage index -1: there are stages 0 to 0", ""},
	{"COPY --from=base,x a /", 3, "base,x: invalid reference \"base,x\": invalid reference format", "want NAME[:TAG][@DIGEST], the name in small letters"},
	{"COPY --from=nosuch a /", 3, "nosuch: ", ""},
	{"COPY --chown a /", 3, "missing a value on flag: --chown", "write --chown=VALUE"},
	{"COPY --chown=a:b:c a /", 3, "--chown=a:b:c: it is user[:group]", ""},
	{"COPY --chown=nobody9 a /", 3, "--chown=nobody9: user \"nobody9\": unable to find user nobody9: no matching entries in passwd file", ""},
	{"COPY --link --chown=me a /", 3, "--chown=me: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", ""},
	{"COPY --chmod=9 a /", 3, "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777", "want a mode such as 0755 or u=rwX,go=rX"},
	{"COPY --chmod=10000 a /", 3, "invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777", "want a mode such as 0755 or u=rwX,go=rX"},
	{"COPY --chmod=u+q a /", 3, "invalid chmod parameter: 'u+q'. \"u+q\" is not like u+rwx", "want a mode such as 0755 or u=rwX,go=rX"},
	{"COPY --link=maybe a /", 3, "expecting boolean value for flag --link, not: maybe", "want true or false"},
	{"COPY --parents=maybe a /", 3, "expecting boolean value for flag --parents, not: maybe", "want true or false"},
	{"COPY --exclude=[ a /", 3, "--exclude: pattern \"[\": syntax error in pattern", "[ begins a set of characters, such as [abc]; \\[ is the character itself"},
	{"COPY --exclude a /", 3, "missing a value on flag: --exclude", "write --exclude=VALUE"},
	{"COPY --unpack a /", 3, "unknown flag: --unpack", "--unpack is a flag of ADD"},
	{"COPY --checksum=sha256:12 a /", 3, "unknown flag: --checksum", "--checksum is a flag of ADD"},
	{"COPY a b /file", 3, "\"/b\": not found in the build context", ""},
	{"COPY absent /", 3, "\"/absent\": not found in the build context", ""},
	{"COPY https://example.com/x /", 3, "source can't be a URL for COPY", "ADD takes URLs and git repositories"},
	{"COPY git@example.com:x.git /", 3, "source can't be a git ref for COPY", "ADD takes URLs and git repositories"},
	{"COPY [ \"a\", /", 3, "glob [: syntax error in pattern", ""},
	{"COPY [\"a\"]", 3, "COPY requires at least two arguments, but only one was provided. Destination could not be determined", "want COPY [FLAG...] SOURCE... DEST"},
	{"COPY [\"a\", 1]", 3, "when using JSON array syntax, arrays must be comprised of strings only", "every element is in double quotes: [\"a\", \"1\"]"},
	{"COPY <<EOF /x\nunfinished", 3, "unterminated heredoc", "a line of EOF alone ends it"},
	{"COPY <<a/b /\na/b", 3, "heredoc \"a/b\" cannot be the name of a file", ""},
	{"COPY --chown=1 --chown=2 a /", 3, "duplicate flag specified: --chown", "it may be given once"},
	{"ADD", 3, "ADD requires at least two arguments, but only one was provided. Destination could not be determined", "want ADD [FLAG...] SOURCE... DEST"},
	{"ADD x", 3, "ADD requires at least two arguments, but only one was provided. Destination could not be determined", "want ADD [FLAG...] SOURCE... DEST"},
	{"ADD --form=x a /", 3, "unknown flag: --form", "want --checksum, --chmod, --chown, --exclude, --keep-git-dir, --link, --unpack"},
	{"ADD --from=x a /", 3, "unknown flag: --from", "--from is a flag of COPY"},
	{"ADD --checksum=sha256:1 a /", 3, "checksum requires HTTP(S) or Git sources", ""},
	{"ADD --checksum=md5:00000000000000000000000000000000 http://127.0.0.1:1/x /", 3, "--checksum=md5:00000000000000000000000000000000: unsupported digest algorithm", "a checksum is sha256: and 64 hexadecimal digits"},
	{"ADD --checksum=sha256:12 http://127.0.0.1:1/x /", 3, "--checksum=sha256:12: invalid checksum digest length", "a checksum is sha256: and 64 hexadecimal digits"},
	{"ADD --chmod=9 a /", 3, "invalid chmod parameter: '9'", "want a mode such as 0755 or u=rwX,go=rX"},
	{"ADD --keep-git-dir a /", 3, "--keep-git-dir requires a Git source", ""},
	{"ADD --keep-git-dir=maybe a.git /", 3, "expecting boolean value for flag --keep-git-dir, not: maybe", "want true or false"},
	{"ADD --unpack=maybe a /", 3, "expecting boolean value for flag --unpack, not: maybe", "want true or false"},
	{"ADD --link=2 a /", 3, "expecting boolean value for flag --link, not: 2", "want true or false"},
	{"ADD --exclude=a[ a /", 3, "--exclude: pattern \"a[\": syntax error in pattern", "[ begins a set of characters, such as [abc]; \\[ is the character itself"},
	{"ADD http:///x /", 3, "http:///x: the URL names no host", ""},
	{"ADD https://github.com/x/y.git?foo=1 /", 3, "unexpected query \"foo\"", "want ref, tag, branch, commit, checksum, subdir, submodules, keep-git-dir, mtime or fetch-by-commit"},
	{"ADD https://github.com/x/y.git?ref=a&branch=b /", 3, "ref conflicts: \"a\" vs \"refs/heads/b\"", ""},
	{"ADD https://github.com/x/y.git?checksum=zzz /", 3, "invalid checksum zzz for Git URL, expected hex commit hash", ""},
	{"ADD https://github.com/x/y.git#--upload-pack=x /", 3, "invalid git ref \"--upload-pack=x\"", ""},
	{"ADD absent.tar /", 3, "\"/absent.tar\": not found in the build context", ""},
	{"FROM", 3, "FROM requires either one or three arguments", "want FROM [--platform=PLATFORM] IMAGE [AS NAME]"},
	{"FROM a b", 3, "FROM requires either one or three arguments", "want FROM [--platform=PLATFORM] IMAGE [AS NAME]"},
	{"FROM a AS", 3, "FROM requires either one or three arguments", "want FROM [--platform=PLATFORM] IMAGE [AS NAME]"},
	{"FROM a AS 1x", 3, "invalid name for build stage: \"1x\", name can't start with a number or contain symbols", "a name begins with a letter and has letters, digits, - _ and . in it"},
	{"FROM a AS scratch", 3, "a: ", ""},
	{"FROM a AS b c", 3, "FROM requires either one or three arguments", "want FROM [--platform=PLATFORM] IMAGE [AS NAME]"},
	{"FROM --platfrom=linux/amd64 a", 3, "unknown flag: --platfrom", "did you mean --platform?"},
	{"FROM --platform=a/b/c/d a", 3, "invalid platform \"a/b/c/d\": want os/architecture or os/architecture/variant", ""},
	{"FROM --platform=windows/amd64 a", 3, "platform windows/amd64 on linux/amd64 ", ""},
	{"FROM --platform=$X a", 3, "empty platform value from expression $X", "give its ARG a default before the first FROM, or build with --build-arg"},
	{"FROM $X", 3, "base name ($X) should not be blank", "give its ARG a default before the first FROM, or build with --build-arg"},
	{"FROM nosuchimage", 3, "nosuchimage: ", ""},
	{"FROM bad//name", 3, "bad//name: invalid reference \"bad//name\": invalid reference format", "want NAME[:TAG][@DIGEST], the name in small letters"},
	{"FROM UPPER:CASE", 3, "UPPER:CASE: invalid reference \"UPPER:CASE\": invalid reference format: repository name (library/UPPER) must be lowercase", "want NAME[:TAG][@DIGEST], the name in small letters"},
	{"FROM scratch@sha256:12", 3, "scratch@sha256:12: invalid reference \"scratch@sha256:12\": invalid reference format", "want NAME[:TAG][@DIGEST], the name in small letters"},
	{"ENV A=${B:?unset}", 3, "failed to process \"${B:?unset}\": B: unset", ""},
	{"ENV A=${B", 3, "failed to process \"${B\": missing \"}\"", ""},
	{"ENV A=${B:x}", 3, "failed to process \"${B:x}\": unsupported modifier (:x) in substitution", "after the name may come - :- + :+ ? :? # ## % %% / //"},
	{"ENV A=${}", 3, "failed to process \"${}\": syntax error: bad substitution", "want $NAME or ${NAME}"},
	{"ENV A=\"x", 3, "failed to process \"\\\"x\": unexpected end of statement while looking for matching double-quote", "a quote within a value is written \\\" or \\'"},
	{"LABEL a=\"", 3, "failed to process \"\\\"\": unexpected end of statement while looking for matching double-quote", "a quote within a value is written \\\" or \\'"},
	{"WORKDIR ${A", 3, "failed to process \"${A\": missing \"}\"", ""},
	{"WORKDIR ${A:?give A}", 3, "failed to process \"${A:?give A}\": A: give A", ""},
	{"USER ${A:?give A}", 3, "failed to process \"${A:?give A}\": A: give A", ""},
	{"EXPOSE ${P:?no port}", 3, "failed to process \"${P:?no\": syntax error: missing '}'", "text with spaces in it has to be in quotes, such as \"${A:?not set}\""},
	{"COPY ${S:?no source} /", 3, "failed to process \"${S:?no\": syntax error: missing '}'", "text with spaces in it has to be in quotes, such as \"${A:?not set}\""},
	{"ADD ${S:?no source} /", 3, "failed to process \"${S:?no\": syntax error: missing '}'", "text with spaces in it has to be in quotes, such as \"${A:?not set}\""},
	{"VOLUME ${V:?no volume}", 3, "failed to process \"${V:?no\": syntax error: missing '}'", "text with spaces in it has to be in quotes, such as \"${A:?not set}\""},
	{"STOPSIGNAL ${S:?no signal}", 3, "failed to process \"${S:?no signal}\": S: no signal", ""},
	{"FROM ${B:?no base}", 3, "FROM requires either one or three arguments", "want FROM [--platform=PLATFORM] IMAGE [AS NAME]"},
	{"ARG X=${Y:?no y}", 3, "failed to process \"${Y:?no\": syntax error: missing '}'", "text with spaces in it has to be in quotes, such as \"${A:?not set}\""},
	{"run  --bogus x", 3, "unknown flag: --bogus", "want --device, --mount, --network, --security"},
	{"RUN --mount=type=bind,target=/x,source=absent true", 3, "\"/absent\": not found in the build context", ""},
	{"RUN --mount=type=secret,id=x,required true", 3, "mount of type secret: secret x is required, and not given: build with --secret id=x,src=FILE or --secret id=x,env=NAME", ""},
	{"RUN --mount=type=ssh,required true", 3, "mount of type ssh: SSH agent default is required, and not given: build with --ssh default", ""},
}

// TestBrokenFiles: every error names the line, shows it, and says what was expected.
func TestBrokenFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range brokenFiles {
		text, first := strings.CutPrefix(c.text, "first:")
		if !first {
			text = "FROM scratch AS base\n# note\n" + text
		}
		cmd := exec.Command("nacre", "--root", filepath.Join(dir, "store"), "build", "-q", "-f", "-", dir)
		cmd.Stdin = strings.NewReader(text + "\n")
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%q builds", c.text)
			continue
		}
		got := "\n" + string(out)
		lines := strings.Split(text, "\n")
		for _, want := range []string{
			fmt.Sprintf("\nerror: Dockerfile:%d: %s", c.line, c.says),
			fmt.Sprintf("\n>%4d | %s\n", c.line, lines[c.line-1]),
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%q: no %q in\n%s", c.text, want, out)
			}
		}
		if c.hint != "" && !strings.Contains(got, "\nhint: "+c.hint+"\n") {
			t.Errorf("%q: no hint %q in\n%s", c.text, c.hint, out)
		}
	}
}

// TestBrokenFilesCover: there is a case for each instruction, and one for each flag.
func TestBrokenFilesCover(t *testing.T) {
	wanted := map[string][]string{
		"ADD": {"checksum", "chmod", "exclude", "keep-git-dir", "link", "unpack"}, "ARG": nil, "CMD": nil,
		"COPY": {"chmod", "chown", "exclude", "from", "link", "parents"}, "ENV": nil, "EXPOSE": nil, "FROM": {"platform"},
		"HEALTHCHECK": {"interval", "retries", "start-interval", "start-period", "timeout"}, "LABEL": nil, "MAINTAINER": nil,
		"ONBUILD": nil, "RUN": {"device", "mount", "network", "security"}, "SHELL": nil, "STOPSIGNAL": nil, "USER": nil,
		"VOLUME": nil, "WORKDIR": nil,
	}
	for name, flags := range wanted {
		for _, flag := range append(flags, "") {
			want := name
			if flag != "" {
				want += " --" + flag
			}
			n := 0
			for _, c := range brokenFiles {
				if strings.HasPrefix(c.text, want) || flag != "" && strings.HasPrefix(c.text, name) && strings.Contains(c.text, "--"+flag) {
					n++
				}
			}
			if n == 0 {
				t.Errorf("nothing is broken in %s", want)
			}
		}
	}
	if len(brokenFiles) < 120 {
		t.Errorf("%d cases are few", len(brokenFiles))
	}
}

// TestUnknownFlag: the command line is no less helpful than the Dockerfile.
func TestUnknownFlag(t *testing.T) {
	for args, want := range map[string]string{
		"build --targt x .":     "unknown flag: --targt\nhint: did you mean --target?\n",
		"build --build-agr x .": "unknown flag: --build-agr\nhint: did you mean --build-arg?\n",
		"build --xyzzy .":       "unknown flag: --xyzzy\nhint: see nacre build --help\n",
		"buid .":                "did you mean build?",
		"images --fitler x":     "did you mean --filter?",
	} {
		cmd := exec.Command("nacre", append([]string{"--root", t.TempDir()}, strings.Fields(args)...)...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, no %q in\n%s", args, err, want, out)
		}
	}
}
