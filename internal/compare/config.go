package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"nacre/internal/image"
)

// Field is a setting that two configs have otherwise.
type Field struct {
	Name string `json:"name"`          // as in Dockerfiles where there is a word for it: "env", "user"
	Key  string `json:"key,omitempty"` // of a variable, label, port or volume
	A    string `json:"a"`             // as shown; empty with HasA false: there is none
	B    string `json:"b"`
	HasA bool   `json:"-"`
	HasB bool   `json:"-"`
}

// Configs lists what differs between two configs, but for history and layers.
func Configs(a, b image.Config) []Field {
	f := &fields{}
	f.one("platform", image.FormatPlatform(a.Platform), image.FormatPlatform(b.Platform))
	f.one("os.version", a.OSVersion, b.OSVersion)
	f.one("os.features", strings.Join(a.OSFeatures, " "), strings.Join(b.OSFeatures, " "))
	f.one("created", when(a.Created), when(b.Created))
	f.one("author", a.Author, b.Author)
	x, y := a.Config, b.Config
	f.one("entrypoint", words(x.Entrypoint), words(y.Entrypoint))
	f.one("cmd", words(x.Cmd), words(y.Cmd))
	f.one("user", x.User, y.User)
	f.one("workdir", x.WorkingDir, y.WorkingDir)
	f.one("stopsignal", x.StopSignal, y.StopSignal)
	f.one("shell", words(x.Shell), words(y.Shell))
	f.one("onbuild", words(x.OnBuild), words(y.OnBuild))
	f.one("healthcheck", shown(x.Healthcheck, x.Healthcheck == nil), shown(y.Healthcheck, y.Healthcheck == nil))
	f.many("env", pairs(x.Env), pairs(y.Env))
	f.many("label", x.Labels, y.Labels)
	f.many("expose", keys(x.ExposedPorts), keys(y.ExposedPorts))
	f.many("volume", keys(x.Volumes), keys(y.Volumes))
	return f.list
}

type fields struct{ list []Field }

func (f *fields) one(name, a, b string) {
	if a != b {
		f.list = append(f.list, Field{Name: name, A: a, B: b, HasA: a != "", HasB: b != ""})
	}
}

func (f *fields) many(name string, a, b map[string]string) {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		va, inA := a[k]
		vb, inB := b[k]
		if inA != inB || va != vb {
			f.list = append(f.list, Field{Name: name, Key: k, A: va, B: vb, HasA: inA, HasB: inB})
		}
	}
}

func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return stamp(*t)
}

func words(list []string) string { return shown(list, len(list) == 0) }

// shown is a value as JSON.
func shown(v any, none bool) string {
	if none {
		return ""
	}
	data, err := image.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

func pairs(env []string) map[string]string {
	m := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		m[name] = value
	}
	return m
}

func keys(set map[string]struct{}) map[string]string {
	m := map[string]string{}
	for k := range set {
		m[k] = ""
	}
	return m
}

// Histories returns what two histories have of their own: what is between the lines that they begin with and
// those that they end with alike, whatever layers these have.
func Histories(a, b []image.History) (onlyA, onlyB []image.History) {
	same := func(x, y image.History) bool {
		return x.CreatedBy == y.CreatedBy && x.Comment == y.Comment && x.Author == y.Author
	}
	for len(a) > 0 && len(b) > 0 && same(a[0], b[0]) {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && same(a[len(a)-1], b[len(b)-1]) {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}
