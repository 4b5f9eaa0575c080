package edit

import (
	"encoding/json"
	"testing"

	"nacre/internal/image"
)

func TestPatch(t *testing.T) {
	for _, c := range []struct {
		name, raw, want string
		change          func(*image.Config)
	}{
		{"nothing", ` {"os": "linux","x":1}`, ` {"os": "linux","x":1}`, func(*image.Config) {}},
		{"field", `{"os":"linux","architecture":"amd64","x":{"y":[1, 2]},"rootfs":{"type":"layers","diff_ids":[]}}`,
			`{"architecture":"amd64","author":"a","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"x":{"y":[1,2]}}`,
			func(c *image.Config) { c.Author = "a" }},
		{"setting", `{"config":{"Unknown":1,"User":"x","Cmd":["a"]},"os":"linux"}`,
			`{"config":{"Cmd":["a"],"Unknown":1,"User":"y"},"os":"linux"}`, func(c *image.Config) { c.Config.User = "y" }},
		{"taken away", `{"config":{"Unknown":1,"User":"x","Cmd":["a"]},"os":"linux"}`,
			`{"config":{"Unknown":1,"User":"x"},"os":"linux"}`, func(c *image.Config) { c.Config.Cmd = nil }},
		{"labels", `{"config":{"Labels":{"a":"1","b":"<>"}}}`, `{"config":{"Labels":{"b":"<>","c":"2"}}}`,
			func(c *image.Config) { c.Config.Labels = map[string]string{"b": "<>", "c": "2"} }},
		// Readers in Go would take the one that comes later: nothing but what is known is kept.
		{"another case", `{"config":{"uSER":"x"}}`, `{"architecture":"","os":"","rootfs":{"type":"","diff_ids":null},"config":{"User":"y"}}`,
			func(c *image.Config) { c.Config.User = "y" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var was, now image.Config
			for _, v := range []*image.Config{&was, &now} {
				if err := json.Unmarshal([]byte(c.raw), v); err != nil {
					t.Fatal(err)
				}
			}
			c.change(&now)
			got, err := patch([]byte(c.raw), was, now)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
}

// FuzzPatch: whatever is read as a config is, patched, read as what it was to become.
func FuzzPatch(f *testing.F) {
	for _, s := range []string{`{}`, `{"config":{"User":"a","user":"b"},"Config":{}}`, `{"config":null,"os":"linux"}`, `{"config":{"Env":["a=b"],"x":{}},"history":[{}],"created":"2020-01-01T00:00:00Z"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		was, err := image.ParseConfig(raw)
		if err != nil {
			return
		}
		now := was
		now.Config.User, now.Author, now.Config.Cmd = "somebody", "", []string{"x"}
		data, err := patch(raw, was, now)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		got, err := image.ParseConfig(data)
		if err != nil || !same(got, now) {
			t.Errorf("%s became %s, %v", raw, data, err)
		}
	})
}
