package portable

import (
	"reflect"
	"testing"
	"time"

	"nacre/internal/cache"

	"github.com/opencontainers/go-digest"
)

// FuzzConfig: what parses is written and read again as the same entries, and keys are
// always those of the fields.
func FuzzConfig(f *testing.F) {
	h := cache.NewHash("k/1", "base\x00stage\x001")
	h.Add("a", "\xff")
	c := newConfig([]cache.Entry{{Record: h.Sum(), Output: cache.Output{
		DiffID: digest.FromString("l"), Content: digest.FromString("c"), Created: time.Unix(5, 0).UTC(), Size: 1,
	}}}, "base")
	data, err := c.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"layers":["sha256:00"],"records":[{"layer":-1}]}`))
	f.Add([]byte(`{"layers":[],"records":[{"layer":0,"fields":"MTphPTE6Ygo="}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, _, err := parseConfig(data, "base")
		if err != nil {
			return
		}
		for _, e := range entries {
			if !e.Valid() {
				t.Fatalf("%+v has a key that is not its fields'", e)
			}
		}
		written, err := newConfig(entries, "base").marshal()
		if err != nil {
			return // a time that JSON cannot have
		}
		again, _, err := parseConfig(written, "base")
		if err != nil {
			t.Fatalf("%v: %s", err, written)
		}
		if len(again) != len(entries) {
			t.Fatalf("%d entries became %d", len(entries), len(again))
		}
		for i := range again {
			if again[i].Key != entries[i].Key || again[i].Content != entries[i].Content || !again[i].Created.Equal(entries[i].Created) ||
				!reflect.DeepEqual(again[i].Fields, entries[i].Fields) {
				t.Fatalf("%+v became %+v", entries[i], again[i])
			}
		}
	})
}
