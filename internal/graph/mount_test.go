package graph_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"nacre/internal/dockerfile"
	"nacre/internal/graph"
)

func number(n uint32) *uint32 { return &n }

func TestMounts(t *testing.T) {
	tests := []struct {
		flag string
		want graph.Mount
	}{
		{"target=x", graph.Mount{Type: "bind", Target: "/w/x", Source: ".", ReadOnly: true}},
		{"type=bind,dst=/x,src=/a/../../b/,rw", graph.Mount{Type: "bind", Target: "/x", Source: "b"}},
		{"type=bind,destination=/x,readwrite=false", graph.Mount{Type: "bind", Target: "/x", Source: ".", ReadOnly: true}},
		{"from=files,target=/x", graph.Mount{Type: "bind", Target: "/x", Source: ".", ReadOnly: true, Context: "files"}},
		{"type=cache,target=/x/", graph.Mount{Type: "cache", Target: "/x", Source: ".", ID: "/x", Sharing: "shared"}},
		{"type=cache,target=x,ro", graph.Mount{Type: "cache", Target: "/w/x", Source: ".", ID: "x", Sharing: "shared", ReadOnly: true}},
		{"type=cache,id=$NAME,target=/x,sharing=locked,mode=0700,uid=$ID,gid=2,source=/",
			graph.Mount{Type: "cache", Target: "/x", Source: ".", ID: "name", Sharing: "locked", Mode: number(0o700), UID: number(7), GID: number(2)}},
		{"type=tmpfs,target=/x,size=2m", graph.Mount{Type: "tmpfs", Target: "/x", Size: 2 << 20}},
		{"type=secret,id=a/b", graph.Mount{Type: "secret", Target: "/run/secrets/b", ID: "a/b", ReadOnly: true}},
		{"type=secret,target=/etc/key,required", graph.Mount{Type: "secret", Target: "/etc/key", ID: "key", ReadOnly: true, Required: true}},
		{"type=secret,source=s,target=/etc/key,mode=0444,uid=1", graph.Mount{Type: "secret", Target: "/etc/key", ID: "s", ReadOnly: true, Mode: number(0o444), UID: number(1)}},
		{"type=secret,id=s,env=S", graph.Mount{Type: "secret", ID: "s", Env: "S", ReadOnly: true}},
		{"type=secret,id=s,env=", graph.Mount{Type: "secret", ID: "s", Env: "s", ReadOnly: true}},
		{"type=secret,id=s,env=S,target=/s", graph.Mount{Type: "secret", ID: "s", Env: "S", Target: "/s", ReadOnly: true}},
		{"type=ssh", graph.Mount{Type: "ssh", Target: "/run/buildkit/ssh_agent.0", ID: "default", ReadOnly: true}},
		{"type=ssh,id=git,target=/a,required=true", graph.Mount{Type: "ssh", Target: "/a", ID: "git", ReadOnly: true, Required: true}},
	}
	for _, tt := range tests {
		t.Run(tt.flag, func(t *testing.T) {
			g, err := plan(t, "FROM base\nENV NAME=name ID=7\nWORKDIR /w\nRUN --mount="+tt.flag+" x",
				graph.Options{Contexts: map[string]graph.Context{"files": {}}}, images{"base": {}})
			if err != nil {
				t.Fatal(err)
			}
			got := g.Target.Last.Op.(*graph.Run).Mounts
			if len(got) != 1 || !reflect.DeepEqual(got[0], tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// What a mount is from is an input of the step, once, and its stage is needed.
func TestMountInputs(t *testing.T) {
	g, err := plan(t, `
FROM base AS unused
FROM base AS tools
RUN make tools
FROM base AS seed
RUN make seed
FROM base
RUN --mount=from=tools,target=/t --mount=type=cache,from=seed,target=/c --mount=from=other,target=/o --mount=from=tools,source=/x,target=/u x
`, graph.Options{}, images{"base": {}, "other": {}})
	if err != nil {
		t.Fatal(err)
	}
	last := g.Target.Last
	var names []string
	for _, in := range last.Inputs() {
		_, text, _ := strings.Cut(in.Name, "] ")
		if text == "" {
			text = in.Name
		}
		names = append(names, text)
	}
	want := []string{"FROM docker.io/library/base:latest", "RUN make tools", "RUN make seed", "FROM docker.io/library/other:latest"}
	if !slices.Equal(names, want) {
		t.Errorf("inputs %q, want %q", names, want)
	}
	if !slices.Equal(g.Skipped, []string{"unused"}) {
		t.Errorf("skipped %q", g.Skipped)
	}
}

func TestMountErrors(t *testing.T) {
	for flag, want := range map[string]string{
		"type=cash,target=/x":                        `unsupported mount type "cash"`,
		"type=cache":                                 "a mount of type cache needs a target",
		"type=bind":                                  "a mount of type bind needs a target",
		"type=tmpfs":                                 "a mount of type tmpfs needs a target",
		"target=/":                                   `invalid mount target "/"`,
		"type=secret":                                "one of source, target required",
		"type=secret,id=a,source=b":                  "both source and id can't be set",
		"type=ssh,source=x":                          "ssh does not support source",
		"type=bind,target=/x,uid=1":                  `uid not allowed for "bind" type mounts`,
		"type=bind,target=/x,sharing=private":        "invalid cache sharing",
		"type=cache,target=/x,sharing=mine":          `unsupported sharing value "mine"`,
		"type=cache,target=/x,source=/s":             "source=/s of a cache needs from=: without, a cache begins empty",
		"type=cache,target=/x,size=1":                "unexpected key 'size'",
		"type=tmpfs,target=/x,size=big":              "invalid value for size",
		"target=/x,from=later":                       `cannot mount from stage "later" to "/x", stage needs to be defined before current command`,
		"target=/x,from=9":                           "invalid stage index 9: there are stages 0 to 1",
		"target=/x,from=absent":                      "no such image",
		"target=/x,from=$NAME":                       "'from' doesn't support variable expansion",
		"target=/x,from=circle":                      "circular dependency detected on stage: circle",
		"type=secret,id=a,env=A=B":                   `"A=B" cannot be the name of a variable`,
		"type=cache,target=/x --security=insecure":   "RUN --security=insecure is not allowed: build with --allow security.insecure",
		"type=cache,target=/x --network=host":        "RUN --network=host is not allowed: build with --allow network.host",
		"target=/x,from=" + strings.Repeat("a", 300): "no such image",
	} {
		text := "FROM base AS circle\nRUN --mount=" + flag + " x\nFROM base AS later\nRUN y"
		_, err := plan(t, text, graph.Options{Network: "none", Target: "circle"}, images{"base": {}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "Dockerfile:2: ") {
			t.Errorf("%s: error %v, want one with %q", flag, err, want)
		}
	}
}

// Whatever a mount changes for the program is in the key; whether it has to be there is not.
func TestMountFields(t *testing.T) {
	fields := func(flag string) []graph.Field {
		t.Helper()
		g, err := plan(t, "FROM base AS a\nFROM base\nRUN "+flag+" x", graph.Options{Allow: []string{"security.insecure"}}, images{"base": {}})
		if err != nil {
			t.Fatal(err)
		}
		return g.Target.Last.Fields()
	}
	list := []string{
		"", "--security=insecure", "--device=a.b/c=d", "--device=a.b/c=e", "--device=a.b/c=d --device=a.b/c=e", "--mount=target=/x", "--mount=target=/y", "--mount=target=/x,rw", "--mount=target=/x,source=/s",
		"--mount=target=/x,from=a", "--mount=type=cache,target=/x", "--mount=type=cache,target=/x,from=a", "--mount=type=cache,target=/x,id=i", "--mount=type=cache,target=/x,uid=1",
		"--mount=type=cache,target=/x,gid=1", "--mount=type=cache,target=/x,mode=700", "--mount=type=cache,target=/x,sharing=locked",
		"--mount=type=tmpfs,target=/x", "--mount=type=tmpfs,target=/x,size=1m", "--mount=type=secret,id=x,target=/x",
		"--mount=type=secret,id=x,env=X", "--mount=type=ssh", "--mount=type=ssh,id=x", "--mount=type=ssh --mount=type=ssh",
	}
	for i, a := range list {
		for _, b := range list[:i] {
			if slices.Equal(fields(a), fields(b)) {
				t.Errorf("%q and %q have the same fields", a, b)
			}
		}
	}
	if !slices.Equal(fields("--mount=type=secret,id=x"), fields("--mount=type=secret,id=x,required")) {
		t.Error("a secret that is required makes another key")
	}
}

// A variable that is a secret shows as stars in the name of the step.
func TestSecretInName(t *testing.T) {
	g, err := plan(t, "FROM base\nENV TOKEN=old\nRUN --mount=type=secret,id=t,env=TOKEN login $TOKEN", graph.Options{}, images{"base": {}})
	if err != nil {
		t.Fatal(err)
	}
	if name := g.Target.Last.Name; !strings.HasSuffix(name, " login ****") {
		t.Errorf("name %q", name)
	}
}

// One file may be planned by several at once, for several platforms.
func TestMountsPlannedAtOnce(t *testing.T) {
	const text = "FROM base\nARG A=1\nRUN --mount=type=cache,id=$A,target=/x x"
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string)
	for _, value := range []string{"1", "2", "3", "4"} {
		go func() {
			g, err := graph.Plan(t.Context(), f, graph.Options{BuildArgs: map[string]*string{"A": &value}, BuildPlatform: amd64}, images{"base": {}}.resolve)
			if err != nil {
				done <- err.Error()
				return
			}
			if id := g.Target.Last.Op.(*graph.Run).Mounts[0].ID; id != value {
				done <- "id " + id + " with A=" + value
				return
			}
			done <- ""
		}()
	}
	for range 4 {
		if text := <-done; text != "" {
			t.Error(text)
		}
	}
}
