package edit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// patch is a JSON document raw, which was read as the value was, as the value now: fields of objects that differ between the two values are
// replaced, and all else stays as it is, also what the values' type does not know. Without any difference it is raw itself.
func patch[T any](raw []byte, was, now T) ([]byte, error) {
	before, err := image.Marshal(was)
	if err != nil {
		return nil, err
	}
	after, err := image.Marshal(now)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(before, after) {
		return raw, nil
	}
	out, err := merge(raw, before, after, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	// Readers that take names of fields in another case for the same, as Go's, may see another one first.
	var check T
	if err := json.Unmarshal(out, &check); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	if got, err := image.Marshal(check); err != nil || !bytes.Equal(got, after) {
		return after, err
	}
	return out, nil
}

// patchDepth is how far objects within objects are merged: a config's settings are one deep, and in
// maps of these names that nobody knows cannot be.
const patchDepth = 1

// merge replaces in the object raw what differs between before and after.
func merge(raw, before, after json.RawMessage, depth int) ([]byte, error) {
	var fields, b, a map[string]json.RawMessage
	for _, x := range []struct {
		data json.RawMessage
		to   *map[string]json.RawMessage
	}{{raw, &fields}, {before, &b}, {after, &a}} {
		if err := json.Unmarshal(x.data, x.to); err != nil {
			return nil, err
		}
	}
	if fields == nil {
		fields = map[string]json.RawMessage{}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			delete(fields, name)
		}
	}
	for name, value := range a {
		old, had := b[name]
		if had && bytes.Equal(old, value) {
			continue
		}
		if have, ok := fields[name]; ok && had && depth < patchDepth && isObject(have) && isObject(old) && isObject(value) {
			merged, err := merge(have, old, value, depth+1)
			if err != nil {
				return nil, err
			}
			value = merged
		}
		fields[name] = value
	}
	return image.Marshal(fields)
}

func isObject(data json.RawMessage) bool {
	data = bytes.TrimSpace(data)
	return len(data) > 0 && data[0] == '{'
}
