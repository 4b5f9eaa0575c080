package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cacheFilter chooses of what the build cache has: of each key one of its values has to fit.
type cacheFilter map[string][]func(cacheRow) bool

const cacheFilters = "id=ID, parent=ID, type=TYPE, description=TEXT, description~=PATTERN, inuse, mutable, shared, private (=BOOL), until=TIME, unused-for=DURATION or since=TIME"

// parseCacheFilter reads filters as buildx has them.
func parseCacheFilter(list []string, now time.Time) (cacheFilter, error) {
	f := cacheFilter{}
	for _, text := range list {
		key, value, given := strings.Cut(text, "=")
		value = strings.TrimPrefix(value, "=") // type==regular is containerd's way to write it
		fits, err := cacheFilterOf(key, value, given, now)
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", text, err)
		}
		f[key] = append(f[key], fits)
	}
	return f, nil
}

func (f cacheFilter) fits(r cacheRow) bool {
	for _, list := range f {
		if !slices.ContainsFunc(list, func(fits func(cacheRow) bool) bool { return fits(r) }) {
			return false
		}
	}
	return true
}

func cacheFilterOf(key, value string, given bool, now time.Time) (func(cacheRow) bool, error) {
	if is := cacheProperty(key); is != nil {
		want := true
		if given {
			var err error
			if want, err = strconv.ParseBool(value); err != nil {
				return nil, errors.New("want true or false")
			}
		}
		return func(r cacheRow) bool { return is(r) == want }, nil
	}
	if value == "" {
		return nil, fmt.Errorf("want %s", cacheFilters)
	}
	switch key {
	case "id", "id~":
		return func(r cacheRow) bool {
			return r.item.Mount.ID == value || isHexID(value) && strings.HasPrefix(r.full, value)
		}, nil
	case "parent", "parents", "parents~":
		return func(r cacheRow) bool {
			return slices.ContainsFunc(r.parents, func(id string) bool { return strings.HasPrefix(id, value) })
		}, nil
	case "type":
		if !slices.Contains(cacheTypes, value) {
			return nil, fmt.Errorf("want %s", strings.Join(cacheTypes, ", "))
		}
		return func(r cacheRow) bool { return r.Type == value }, nil
	case "description":
		return func(r cacheRow) bool { return strings.Contains(r.Description, value) }, nil
	case "description~":
		p, err := regexp.Compile(value)
		if err != nil {
			return nil, err
		}
		return func(r cacheRow) bool { return p.MatchString(r.Description) }, nil
	case "until", "unused-for", "since":
		t, err := parseUntil(value, now)
		if err != nil {
			return nil, err
		}
		return func(r cacheRow) bool { return r.item.Used.Before(t) == (key != "since") }, nil
	}
	return nil, fmt.Errorf("unknown; want %s", cacheFilters)
}

// cacheProperty is what a key that is true or false looks at; nil for other keys.
func cacheProperty(key string) func(cacheRow) bool {
	switch key {
	case "inuse":
		return func(r cacheRow) bool { return r.InUse }
	case "mutable":
		return func(r cacheRow) bool { return r.Mutable }
	case "immutable":
		return func(r cacheRow) bool { return !r.Mutable }
	case "shared":
		return func(r cacheRow) bool { return r.Shared }
	case "private":
		return func(r cacheRow) bool { return !r.Shared }
	}
	return nil
}
