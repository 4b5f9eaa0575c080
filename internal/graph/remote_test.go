package graph_test

import (
	"strings"
	"testing"

	"nacre/internal/graph"
)

func TestParseGit(t *testing.T) {
	for raw, want := range map[string]graph.Git{
		"https://h/a/b.git":                     {Remote: "https://h/a/b.git"},
		"HTTPS://h/b.git#main":                  {Remote: "https://h/b.git", Ref: "main"},
		"https://h/b.git#main:docs/x":           {Remote: "https://h/b.git", Ref: "main", Subdir: "docs/x"},
		"https://h/b.git#:docs":                 {Remote: "https://h/b.git", Subdir: "docs"},
		"https://h/b.git#:../../etc":            {Remote: "https://h/b.git", Subdir: "etc"},
		"git@h:a/b.git#v1":                      {Remote: "git@h:a/b.git", Ref: "v1"},
		"ssh://git@h:22/a?ref=x&subdir=y":       {Remote: "ssh://git@h:22/a", Ref: "x", Subdir: "y"},
		"git://h/a?tag=v1&submodules=0":         {Remote: "git://h/a", Ref: "refs/tags/v1", NoSubmodules: true},
		"git://h/a?branch=b&submodules":         {Remote: "git://h/a", Ref: "refs/heads/b"},
		"git://h/a?keep-git-dir&mtime=commit":   {Remote: "git://h/a", KeepDir: true, CommitTime: true},
		"https://h/b.git?checksum=ABC12#ref:d/": {Remote: "https://h/b.git", Ref: "ref", Subdir: "d", Checksum: "abc12"},
		"https://h/b.git?fetch-by-commit&commit=" + strings.Repeat("a", 40): {
			Remote: "https://h/b.git", Checksum: strings.Repeat("a", 40), ByCommit: true},
	} {
		if !graph.IsGit(raw) {
			t.Errorf("%s is not seen as git", raw)
		}
		got, err := graph.ParseGit(raw)
		if err != nil || *got != want {
			t.Errorf("%s: got %+v, %v; want %+v", raw, got, err, want)
		}
	}
	for _, raw := range []string{
		"https://h/b.git?fetch-by-commit", "https://h/b.git?mtime=now", "https://h/b.git?ref=", "https://h/b.git?submodules=maybe",
		"https://h/b.git#-x", "https://-h/b.git", "ssh://-oProxyCommand=x/b", "https:///b.git", "git://h/a?commit=a&checksum=b",
	} {
		if got, err := graph.ParseGit(raw); err == nil {
			t.Errorf("%s is %+v, want an error", raw, got)
		}
	}
}

func TestParseHTTP(t *testing.T) {
	for raw, want := range map[string]string{
		"http://h/a/b.txt": "b.txt", "http://h/a/": "a", "http://h": "__unnamed__", "http://h/?x=/y": "__unnamed__",
		"https://h/a%20b": "a b", "http://h/..": "__unnamed__", "http://h/a%2Fb": "b", "http://h/*": "*", "http://h/a#f": "a",
	} {
		if h, err := graph.ParseHTTP(raw); err != nil || h.Name != want {
			t.Errorf("%s: got %+v, %v; want %s", raw, h, err, want)
		}
	}
	if _, err := graph.ParseHTTP("http:///x"); err == nil {
		t.Error("a URL without a host was taken")
	}
}

func TestRedact(t *testing.T) {
	for raw, want := range map[string]string{
		"https://u:p@h/x": "https://xxxxx:xxxxx@h/x", "https://token@h/x": "https://xxxxx:xxxxx@h/x",
		"ssh://git@h/x": "ssh://git@h/x", "git@h:x": "git@h:x", "https://h/x": "https://h/x",
	} {
		if got := graph.Redact(raw); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}

// FuzzParseGit: whatever it takes cannot be mistaken for an option of git, and stays in the tree.
func FuzzParseGit(f *testing.F) {
	for _, s := range []string{"https://h/b.git#main:docs", "git@h:x?ref=a", "git://h/a?keep-git-dir&mtime=commit", "ssh://-o/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		g, err := graph.ParseGit(raw)
		if err != nil {
			return
		}
		if strings.HasPrefix(g.Remote, "-") || strings.HasPrefix(g.Ref, "-") || strings.HasPrefix(g.Subdir, "/") {
			t.Errorf("%q: %+v", raw, g)
		}
		for part := range strings.SplitSeq(g.Subdir, "/") {
			if part == ".." {
				t.Errorf("%q: %+v", raw, g)
			}
		}
	})
}
