package graph_test

import (
	"reflect"
	"slices"
	"testing"

	"nacre/internal/graph"
)

// TestFields: whatever could change a step's outcome changes its fields; what
// could not, does not.
func TestFields(t *testing.T) {
	same := func(a, b string, o graph.Options) bool {
		t.Helper()
		var f [2][]graph.Field
		for i, text := range []string{a, b} {
			opt := graph.Options{}
			if i == 1 {
				opt = o
			}
			g, err := plan(t, "FROM scratch AS x\nFROM base\n"+text, opt, images{"base": {}})
			if err != nil {
				t.Fatal(err)
			}
			f[i] = g.Target.Last.Fields()
		}
		return slices.Equal(f[0], f[1])
	}
	for _, c := range [][2]string{
		{"RUN a", "RUN b"},
		{"RUN a b", `RUN ["/bin/sh", "-c", "a", "b"]`},
		{"ENV A=1\nRUN x", "ENV A=2\nRUN x"},
		{"ARG A=1\nRUN x", "ARG A=2\nRUN x"},
		{"WORKDIR /a\nRUN x", "WORKDIR /b\nRUN x"},
		{"USER a\nRUN x", "USER b\nRUN x"},
		{"USER a\nWORKDIR /x", "USER b\nWORKDIR /x"},
		{"RUN x", "RUN --network=none x"},
		{"RUN <<A\n#!a\nA\n", "RUN <<A\n#!b\nA\n"},
		{"COPY a /", "ADD a /"},
		{"COPY a /", "COPY b /"},
		{"COPY a /", "COPY a /b"},
		{"COPY a b /c/", "COPY a/b /c/"},
		{"COPY a /x", "COPY a /x/"},
		{"COPY a /", "COPY --from=x a /"},
		{"COPY a /", "COPY --chown=1 a /"},
		{"COPY a /", "COPY --chmod=755 a /"},
		{"COPY a /", "COPY --link a /"},
		{"COPY a /", "COPY --parents a /"},
		{"COPY a /", "COPY --exclude=b a /"},
		{"COPY <<A /\n1\nA\n", "COPY <<A /\n2\nA\n"},
		{"COPY <<A /\n1\nA\n", "COPY <<B /\n1\nB\n"},
		{"ADD a /", "ADD --unpack=false a /"},
	} {
		if same(c[0], c[1], graph.Options{}) {
			t.Errorf("%q and %q have the same fields", c[0], c[1])
		}
	}
	for _, c := range [][2]string{
		{"RUN x", "LABEL a=b\nCMD x\nRUN x"},
		{"COPY a /x", "WORKDIR /\nCOPY ./a x"},
		{"COPY --from=0 a /", "COPY --from=x a /"},
	} {
		if !same(c[0], c[1], graph.Options{}) {
			t.Errorf("%q and %q differ", c[0], c[1])
		}
	}
	if !same("RUN x", "RUN x", graph.Options{BuildArgs: args("HTTP_PROXY", "http://p")}) {
		t.Error("a proxy changes the fields")
	}
	if same("RUN x", "RUN x", graph.Options{Network: "host"}) {
		t.Error("the network does not change the fields")
	}
}

func TestProxies(t *testing.T) {
	o := graph.Options{BuildArgs: args("https_proxy", "p:1")}
	none := ""
	o.BuildArgs["No_Proxy"] = &none
	g, err := plan(t, "FROM base\nRUN x", o, images{"base": {}})
	if err != nil {
		t.Fatal(err)
	}
	got := g.Target.Last.Op.(*graph.Run).Proxy
	if want := []string{"HTTPS_PROXY=p:1", "https_proxy=p:1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(g.Warnings) > 0 {
		t.Errorf("warnings: %v", g.Warnings)
	}
}
