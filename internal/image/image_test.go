package image

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// golden compares data to a file of testdata, which UPDATE=1 writes anew.
func golden(t *testing.T, name string, data []byte) {
	t.Helper()
	path := "testdata/" + name
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s:\n got %s\nwant %s", name, data, want)
	}
}

func sample() (Config, []Layer) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	cfg := Config{}
	cfg.Created = &created
	cfg.OS, cfg.Architecture = "linux", "amd64"
	cfg.Config.Env = []string{"PATH=/bin", "A=<b> & c"}
	cfg.Config.Labels = map[string]string{"z": "1", "a": "2"}
	cfg.Config.OnBuild = []string{"RUN make && true"}
	cfg.Config.Shell = []string{"/bin/bash", "-c"}
	cfg.History = []History{{CreatedBy: "COPY a / # buildkit"}, {CreatedBy: "ENV A=b", EmptyLayer: true}, {CreatedBy: "RUN make"}}
	return cfg, []Layer{{DiffID: digest.FromString("a"), Size: 1024}, {DiffID: digest.FromString("b"), Size: 2048}}
}

func TestAssemble(t *testing.T) {
	cfg, layers := sample()
	a, err := Assemble(cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "config.json", a.Config)
	golden(t, "manifest.json", a.Manifest)
	if want := Describe(TypeConfig, a.Config); !reflect.DeepEqual(a.ConfigDesc, want) {
		t.Errorf("config is described as %+v, want %+v", a.ConfigDesc, want)
	}
	if want := Describe(TypeManifest, a.Manifest); !reflect.DeepEqual(a.ManifestDesc, want) {
		t.Errorf("manifest is described as %+v, want %+v", a.ManifestDesc, want)
	}
	// What is written reads back as what it was.
	got, err := ParseConfig(a.Config)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RootFS = got.RootFS
	if !reflect.DeepEqual(got, cfg) {
		t.Errorf("config reads back as %+v, was %+v", got, cfg)
	}
	m, err := ParseManifest(a.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(got, m); err != nil {
		t.Error(err)
	}
	again, err := Assemble(got, layers)
	if err != nil || !bytes.Equal(again.Config, a.Config) || !bytes.Equal(again.Manifest, a.Manifest) {
		t.Errorf("the same image has other bytes the second time: %v", err)
	}
	empty, err := Assemble(Config{Image: cfg.Image}, nil)
	if err == nil {
		t.Errorf("history of two layers went with none: %s", empty.Config)
	}
	cfg.History = nil
	if empty, err = Assemble(cfg, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(empty.Config), `"diff_ids":[]`) || !strings.Contains(string(empty.Manifest), `"layers":[]`) {
		t.Errorf("no layers must be [] (null is refused by other tools): %s %s", empty.Config, empty.Manifest)
	}
}

func TestAssembleRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config, []Layer){
		"no os":           func(c *Config, _ []Layer) { c.OS = "" },
		"no architecture": func(c *Config, _ []Layer) { c.Architecture = "" },
		"bad diffID":      func(_ *Config, l []Layer) { l[1].DiffID = "sha256:../x" },
		"negative size":   func(_ *Config, l []Layer) { l[0].Size = -1 },
		"short history":   func(c *Config, _ []Layer) { c.History = c.History[:1] },
		"too large":       func(c *Config, _ []Layer) { c.Author = strings.Repeat("x", MaxSize) },
	} {
		cfg, layers := sample()
		change(&cfg, layers)
		if _, err := Assemble(cfg, layers); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidate(t *testing.T) {
	cfg, layers := sample()
	a, err := Assemble(cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config, *Manifest)
		ok     bool
	}{
		"as it is": {func(*Config, *Manifest) {}, true},
		"compressed": {func(_ *Config, m *Manifest) {
			m.Layers[0].MediaType, m.Layers[0].Digest = TypeLayerGzip, digest.FromString("z")
		}, true},
		"no history":      {func(c *Config, _ *Manifest) { c.History = nil }, true},
		"swapped":         {func(_ *Config, m *Manifest) { m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0] }, false},
		"one layer less":  {func(_ *Config, m *Manifest) { m.Layers = m.Layers[:1] }, false},
		"one diffID less": {func(c *Config, _ *Manifest) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] }, false},
		"history of 3":    {func(c *Config, _ *Manifest) { c.History[1].EmptyLayer = false }, true}, // it is told, and nothing rests on it
		"no rootfs type":  {func(c *Config, _ *Manifest) { c.RootFS.Type = "" }, false},
	} {
		cfg, err := ParseConfig(a.Config)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseManifest(a.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		c.change(&cfg, &m)
		if err := Validate(cfg, m); (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrInvalid)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrace(t *testing.T) {
	cfg, layers := sample()
	a, err := Assemble(cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _ = ParseConfig(a.Config)
	m, _ := ParseManifest(a.Manifest)
	show := func(made []Made) string {
		var s []string
		for _, x := range made {
			line := x.CreatedBy
			if x.Layer != nil {
				line += "=" + x.Layer.Digest.Encoded()[:4] + "/" + x.DiffID.Encoded()[:4]
			}
			s = append(s, line)
		}
		return strings.Join(s, "; ")
	}
	if got, want := show(Trace(cfg, m)), "COPY a / # buildkit=ca97/ca97; ENV A=b; RUN make=3e23/3e23"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	cfg.History = cfg.History[:2]
	if got, want := show(Trace(cfg, m)), "COPY a / # buildkit=ca97/ca97; ENV A=b; =3e23/3e23"; got != want {
		t.Errorf("short history: %s, want %s", got, want)
	}
	cfg.History = append(cfg.History, History{CreatedBy: "x"}, History{CreatedBy: "y"})
	if got, want := show(Trace(cfg, m)), "COPY a / # buildkit=ca97/ca97; ENV A=b; x=3e23/3e23; y"; got != want {
		t.Errorf("long history: %s, want %s", got, want)
	}
}

// TestAssembleBlob: a layer that is elsewhere is referred to as it travels, in an OCI manifest by the OCI type.
func TestAssembleBlob(t *testing.T) {
	cfg, layers := sample()
	blob := Descriptor{MediaType: TypeDockerLayerGzip, Digest: digest.FromString("gz"), Size: 7}
	layers[1] = Layer{DiffID: layers[1].DiffID, Blob: OCILayer(blob)}
	a, err := Assemble(cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(a.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Layers[1]; got.MediaType != TypeLayerGzip || got.Digest != blob.Digest || got.Size != 7 {
		t.Errorf("layer is %+v", got)
	}
	if m.Layers[0].MediaType != TypeLayer {
		t.Errorf("the layer that is here is %+v", m.Layers[0])
	}
}

// TestWholeHistory: an image that tells of too few layers, or none, tells of all once it tells of one more.
func TestWholeHistory(t *testing.T) {
	line, empty := History{CreatedBy: "x"}, History{EmptyLayer: true}
	for _, c := range []struct {
		have   []History
		layers int
		want   []bool // of each line whether it has a layer
	}{
		{nil, 0, nil}, {nil, 2, []bool{true, true}}, {[]History{line}, 2, []bool{true, true}},
		{[]History{empty, line, empty}, 1, []bool{false, true, false}}, {[]History{line, line}, 1, []bool{true, false}},
	} {
		got := WholeHistory(c.have, c.layers)
		if len(got) != len(c.want) || LayersIn(got) != c.layers {
			t.Errorf("%v of %d: %v", c.have, c.layers, got)
			continue
		}
		for i, h := range got {
			if h.EmptyLayer == c.want[i] {
				t.Errorf("%v of %d: %v", c.have, c.layers, got)
			}
		}
	}
}
