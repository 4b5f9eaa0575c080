package graph_test

import (
	"errors"
	"strings"
	"testing"

	"nacre/internal/dockerfile"
	"nacre/internal/graph"
	"nacre/internal/image"
)

// TestErrors: what a Dockerfile gets wrong is told with its line.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name, text  string
		o           graph.Options
		want        string // error and, in parentheses, hint
		unsupported bool
	}{
		{name: "target", text: "FROM scratch AS builder", o: graph.Options{Target: "bilder"},
			want: `Dockerfile: target stage "bilder" could not be found (did you mean builder?)`},
		{name: "target number", text: "FROM scratch", o: graph.Options{Target: "1"},
			want: `Dockerfile: target stage "1" could not be found`},
		{name: "circle", text: "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /",
			want: "Dockerfile:4: circular dependency detected on stage: a"},
		{name: "self", text: "FROM scratch AS a\nCOPY --from=a / /",
			want: "Dockerfile:2: circular dependency detected on stage: a"},
		{name: "later", text: "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b", o: graph.Options{Target: "a"},
			want: `Dockerfile:2: cannot copy from stage "b", it needs to be defined before current stage "a"`},
		{name: "index", text: "FROM scratch\nCOPY --from=3 / /",
			want: "Dockerfile:2: invalid stage index 3: there are stages 0 to 0"},
		{name: "from variable", text: "FROM scratch\nCOPY --from=$A / /",
			want: "Dockerfile:2: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"},
		{name: "blank base", text: "ARG A\nFROM ${A}", want: "Dockerfile:2: base name (${A}) should not be blank"},
		{name: "no image", text: "FROM scratch AS base\nFROM bose", want: "Dockerfile:2: bose: no such image; there are [] (did you mean base?)"},
		{name: "required", text: "FROM scratch\nENV A=${B:?unset}",
			want: `Dockerfile:2: failed to process "${B:?unset}": B: unset`},
		{name: "quote", text: "FROM scratch\nLABEL a='b", want: `Dockerfile:2: failed to process "'b": unexpected end of statement while looking for matching single-quote`},
		{name: "device", text: "FROM scratch\nRUN --device=required true", want: "Dockerfile:2: RUN --device needs the name of a device: --device=vendor.com/class=name[,required]"},
		{name: "device key", text: "FROM scratch\nRUN --device=a.b/c=d,requird=1 true", want: "Dockerfile:2: unexpected key 'requird' in 'requird=1' (did you mean required?)"},
		{name: "insecure", text: "FROM scratch\nRUN --security=insecure true", want: "Dockerfile:2: RUN --security=insecure is not allowed: build with --allow security.insecure"},
		{name: "network", text: "FROM scratch\nRUN --network=nine true", want: `Dockerfile:2: invalid network mode "nine" (did you mean none?)`},
		{name: "network option", text: "FROM scratch", o: graph.Options{Network: "nine"}, want: `invalid network mode "nine"`},
		{name: "platform", text: "FROM --platform=windows/amd64 a", want: "Dockerfile:1: platform windows/amd64 on linux/amd64 is not supported yet", unsupported: true},
		{name: "platform option", text: "FROM a", o: graph.Options{Platform: image.Platform{OS: "windows", Architecture: "arm64"}},
			want: "building for windows/arm64 on linux/amd64 is not supported yet", unsupported: true},
		{name: "platform empty", text: "FROM --platform=$X a", want: "Dockerfile:1: empty platform value from expression $X"},
		{name: "platform bad", text: "FROM --platform=a/b/c/d a", want: `Dockerfile:1: invalid platform "a/b/c/d": want os/architecture or os/architecture/variant`},
		{name: "copy url", text: "FROM scratch\nCOPY https://example.com/x /", want: "Dockerfile:2: source can't be a URL for COPY"},
		{name: "copy git", text: "FROM scratch\nCOPY ssh://git@example.com/x /", want: "Dockerfile:2: source can't be a git ref for COPY"},
		{name: "checksum", text: "FROM scratch\nADD --checksum=sha256:1 x /", want: "Dockerfile:2: checksum requires HTTP(S) or Git sources"},
		{name: "keep git dir", text: "FROM scratch\nADD --keep-git-dir x /", want: "Dockerfile:2: --keep-git-dir requires a Git source"},
		{name: "chmod", text: "FROM scratch\nCOPY --chmod=9 x /", want: "Dockerfile:2: invalid chmod parameter: '9'. it should be octal string and between 0 and 07777"},
		{name: "chmod big", text: "FROM scratch\nCOPY --chmod=10000 x /", want: "Dockerfile:2: invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777"},
		{name: "chmod symbolic", text: "FROM scratch\nCOPY --chmod=u+r,x x /", want: `Dockerfile:2: invalid chmod parameter: 'u+r,x'. "x" is not like u+rwx`},
		{name: "chown", text: "FROM scratch\nCOPY --chown=a:b:c x /", want: "Dockerfile:2: --chown=a:b:c: it is user[:group]"},
		{name: "chown link", text: "FROM scratch\nCOPY --link --chown=a x /",
			want: "Dockerfile:2: --chown=a: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead"},
		{name: "exclude", text: "FROM scratch\nCOPY --exclude=[ x /", want: `Dockerfile:2: --exclude: pattern "[": syntax error in pattern`},
		{name: "heredoc name", text: "FROM scratch\nCOPY <<a/b /\na/b\n", want: `Dockerfile:2: heredoc "a/b" cannot be the name of a file`},
		{name: "script name", text: "FROM scratch\nRUN <<../../x\n#!/bin/sh\n../../x\n", want: `Dockerfile:2: heredoc "../../x" cannot be the name of a file`},
		{name: "run nothing", text: "FROM scratch\nRUN []", want: "Dockerfile:2: RUN needs a command"},
		{name: "signal", text: "FROM scratch\nSTOPSIGNAL SIGNO", want: "Dockerfile:2: invalid signal: SIGNO"},
		{name: "signal zero", text: "FROM scratch\nSTOPSIGNAL 0", want: "Dockerfile:2: invalid signal: 0"},
		{name: "port", text: "FROM scratch\nEXPOSE http", want: "Dockerfile:2: invalid containerPort: http: a port is a number from 0 to 65535"},
		{name: "port range", text: "FROM scratch\nEXPOSE 9-8", want: "Dockerfile:2: invalid containerPort: 9-8: the range ends before it begins"},
		{name: "port proto", text: "FROM scratch\nEXPOSE 80/icmp", want: `Dockerfile:2: invalid port: "80/icmp": invalid proto: icmp`},
		{name: "port address", text: "FROM scratch\nEXPOSE nowhere:1:2", want: "Dockerfile:2: invalid IP address: nowhere"},
		{name: "ports", text: "FROM scratch\nEXPOSE " + strings.Repeat("0-65535 ", 4), want: "Dockerfile:2: more ports than there are"},
		{name: "volume", text: "FROM scratch\nVOLUME $A", want: "Dockerfile:2: VOLUME specified can not be an empty string"},
		{name: "epoch", text: "FROM scratch", o: graph.Options{BuildArgs: args("SOURCE_DATE_EPOCH", "now")},
			want: `invalid SOURCE_DATE_EPOCH "now": it is a number of seconds since 1970`},
		{name: "check", text: "# check=error=true\nFROM scratch\nCMD x", want: "Dockerfile:3: lint violation found for rules: JSONArgsRecommended"},
		{name: "bomb", text: "FROM scratch\nENV A=0123456789\n" + strings.Repeat("ENV A=$A$A$A$A$A$A$A$A$A$A\n", 20), want: "Dockerfile:9: variables expand to too much text"},
		{name: "pattern bomb", text: "FROM scratch\nENV A=" + strings.Repeat("a", 20000) + "\nENV B=${A//a/$A}", want: "Dockerfile:3: variables expand to too much text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := plan(t, c.text, c.o, images{})
			if err == nil {
				t.Fatal("no error")
			}
			got := err.Error()
			if e, ok := errors.AsType[*dockerfile.Error](err); ok && e.Hint != "" {
				got += " (" + e.Hint + ")"
			}
			if got != c.want && err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if errors.Is(err, graph.ErrUnsupported) != c.unsupported {
				t.Errorf("errors.Is(err, ErrUnsupported) is %v", !c.unsupported)
			}
		})
	}
}

// TestTriggerErrors: those of a base image's ONBUILD are told at the FROM.
func TestTriggerErrors(t *testing.T) {
	for text, want := range map[string]string{
		"RUNN x":                "Dockerfile:2: ONBUILD RUNN x: unknown instruction: RUNN (did you mean RUN?)",
		"FROM x":                "Dockerfile:2: ONBUILD FROM x: FROM isn't allowed as an ONBUILD trigger",
		"RUN a\nRUN b":          "Dockerfile:2: ONBUILD RUN a...: an ONBUILD trigger is a single instruction",
		"ONBUILD RUN x":         "Dockerfile:2: ONBUILD ONBUILD RUN x: ONBUILD isn't allowed as an ONBUILD trigger",
		"":                      "Dockerfile:2: ONBUILD : file with no instructions",
		"EXPOSE x":              "Dockerfile:2: ONBUILD EXPOSE x: invalid containerPort: x: a port is a number from 0 to 65535",
		"COPY --from=child a /": `Dockerfile:2: ONBUILD COPY --from=child a /: cannot copy from stage "child", it needs to be defined before current stage "child"`,
	} {
		base := graph.Image{}
		base.Config.Config.OnBuild = []string{text}
		_, err := plan(t, "#\nFROM base AS child", graph.Options{}, images{"base": base})
		if err == nil {
			t.Errorf("%q: no error", text)
			continue
		}
		got := err.Error()
		if e, ok := errors.AsType[*dockerfile.Error](err); ok && e.Hint != "" {
			got += " (" + e.Hint + ")"
		}
		if got != want && err.Error() != want {
			t.Errorf("%q:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func args(key, value string) map[string]*string { return map[string]*string{key: &value} }
