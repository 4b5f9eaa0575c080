package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"nacre/internal/reference"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
)

// cutFilter reads a --filter as docker does: KEY=VALUE, spaces around either ignored. Of an empty one the key is empty.
func cutFilter(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok && s != "" {
		return "", "", &exitError{125, fmt.Errorf("--filter %q: bad format of filter (expected name=value)", s)} // docker's words and code
	}
	return strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value), nil
}

// imageFilter makes a predicate from --all, --filter and the optional argument. It leaves
// an image those of its names that fit. Filters all have to fit, but of patterns one.
func (a *app) imageFilter(ctx context.Context, f imagesFlags, args []string) (func(*store.Image) bool, error) {
	var tests []func(*store.Image) bool
	patterns := slices.DeleteFunc(slices.Clone(args), func(s string) bool { return s == "" }) // as docker has it
	all := f.all
	for _, filter := range f.filters {
		key, value, err := cutFilter(filter)
		if err != nil {
			return nil, err
		}
		switch key {
		case "reference":
			patterns = append(patterns, value)
			continue
		case "":
			continue
		}
		t, err := a.imageTest(ctx, key, value)
		if err != nil {
			return nil, err
		}
		all = all && key != "dangling" // an image that others were made from is never dangling
		tests = append(tests, t)
	}
	match := make([]namePattern, len(patterns))
	for i, p := range patterns {
		var err error
		if match[i], err = parsePattern(p); err != nil {
			return nil, err
		}
	}
	return func(img *store.Image) bool {
		if img.Dangling && img.Children > 0 && !all {
			return false
		}
		for _, t := range tests {
			if !t(img) {
				return false
			}
		}
		return len(match) == 0 || leaveNames(img, match)
	}, nil
}

// leaveNames leaves an image the names that match, and tells whether there are any. A pattern that fits a digest
// leaves the tags of its repository.
func leaveNames(img *store.Image, match []namePattern) bool {
	var names []registry.Ref
	for _, n := range img.Names {
		digest := registry.Ref{Repo: n.Repo, Digest: img.Target.Digest}
		if slices.ContainsFunc(match, func(p namePattern) bool { return p.match(n) || p.digest && p.match(digest) }) {
			names = append(names, n)
		}
	}
	img.Names = names
	return len(names) > 0
}

func (a *app) imageTest(ctx context.Context, key, value string) (func(*store.Image) bool, error) {
	switch key {
	case "dangling":
		want, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("invalid filter 'dangling=%s': want true or false", value)
		}
		return func(i *store.Image) bool { return untagged(i, want) == want }, nil
	case "label", "label!":
		name, want, exact := strings.Cut(value, "=")
		return func(i *store.Image) bool {
			have, ok := i.Labels[name]
			return (ok && (!exact || have == want)) == (key == "label")
		}, nil
	case "before", "since":
		img, err := a.image(ctx, value)
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", key, err)
		}
		return func(i *store.Image) bool {
			if key == "before" {
				return i.Created.Before(img.Created)
			}
			return i.Created.After(img.Created)
		}, nil
	case "until":
		limit, err := parseUntil(value, time.Now())
		if err != nil {
			return nil, err
		}
		return func(i *store.Image) bool { return i.Created.Before(limit) }, nil
	}
	return nil, &hintError{fmt.Errorf("invalid filter '%s'", key), "want dangling, label, before, since, until or reference"}
}

// untagged tells whether an image is dangling. As with docker, one that has no tag but a digest in some repository is
// among those that are, and among those that are not.
func untagged(i *store.Image, asked bool) bool {
	if asked {
		return !slices.ContainsFunc(i.Names, func(n registry.Ref) bool { return n.Tag != "" })
	}
	return len(i.Names) == 0
}

// parseUntil reads a point in time as docker does: a duration before now ("24h"),
// seconds since 1970 with or without a fraction, or a date.
func parseUntil(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if t, ok := unixTime(s); ok {
		return t, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("until=%s: want a duration such as 24h, or a time such as 2006-01-02T15:04:05", s)
}

// unixTime reads "1136073600" or "1136073600.000000001".
func unixTime(s string) (time.Time, bool) {
	whole, fraction, dotted := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || dotted && len(fraction) > 9 {
		return time.Time{}, false
	}
	if !dotted {
		return time.Unix(sec, 0), true
	}
	nano, err := strconv.ParseUint(fraction+strings.Repeat("0", 9-len(fraction)), 10, 32)
	return time.Unix(sec, int64(nano)), err == nil
}

// namePattern matches names as docker does: path.Match's wildcards against the familiar name with and without tag.
// Without wildcards it may also be the name in full.
type namePattern struct {
	text   string
	exact  reference.Named // what it is as a name
	plain  bool            // it is one
	digest bool            // it asks for one
}

func parsePattern(text string) (namePattern, error) {
	if _, err := path.Match(text, "a"); err != nil {
		return namePattern{}, fmt.Errorf("pattern %q: %w", text, err)
	}
	exact, err := reference.Parse(text)
	return namePattern{text, exact, err == nil, strings.Contains(text, "@")}, nil
}

func (p namePattern) match(r registry.Ref) bool {
	if p.plain && p.exact.Name() == r.Repo {
		if p.exact.Digest != "" {
			return p.exact.Digest == r.Digest
		}
		return p.exact.Tag == "" || p.exact.Tag == r.Tag
	}
	if ok, _ := path.Match(p.text, r.Familiar()); ok {
		return true
	}
	ok, _ := path.Match(p.text, r.FamiliarRepo())
	return ok
}
