package main

import (
	"testing"

	"nacre/internal/compare"
)

// TestWanted: what --path asks for, and which folders have to be looked into for it.
func TestWanted(t *testing.T) {
	for _, c := range []struct {
		path, name string
		want       compare.Part
	}{
		{"/etc", ".", compare.Inside}, {"/etc", "etc", compare.All}, {"etc/", "etc/a/b", compare.All}, {"/etc", "etcetera", compare.Nothing}, {"/etc", "usr", compare.Nothing},
		{"/", ".", compare.All}, {"/", "a/b", compare.All},
		{"/usr/bin/x", "usr", compare.Inside}, {"/usr/bin/x", "usr/bin", compare.Inside}, {"/usr/bin/x", "usr/bi", compare.Nothing}, {"/usr/bin/x", "usr/bin/xy", compare.Nothing},
		{"/etc/*.conf", ".", compare.Inside}, {"/etc/*.conf", "etc", compare.Inside}, {"/etc/*.conf", "etc/a.conf", compare.All}, {"/etc/*.conf", "etc/a.conf/below", compare.All},
		{"/etc/*.conf", "etc/a", compare.Inside}, {"/etc/*.conf", "usr", compare.Nothing},
		{"**/passwd", "a/b", compare.Inside}, {"**/passwd", "a/b/passwd", compare.All}, {"usr/*/x", "usr/lib", compare.Inside}, {"usr/*/x", "usr/lib/x", compare.All},
	} {
		if got := wanted([]string{"/nowhere", c.path})(c.name); got != c.want {
			t.Errorf("%s of %s: %d, want %d", c.path, c.name, got, c.want)
		}
	}
	if wanted(nil) != nil {
		t.Error("no path is not all")
	}
}
