// Package archtest holds the arrows between packages: who may import whom. The table
// is the design; a new arrow is a change of design and wants its reason in the commit.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows lists, for each package of this module, the packages of this module it may
// import outside of its tests. A name ending in "/..." stands for all below it too.
var arrows = map[string][]string{
	// Values and contracts: they know next to nothing.
	"internal/event":           {},
	"internal/cache":           {},
	"internal/cache/cachetest": {"internal/cache"},
	"internal/cache/note":      {},
	"internal/cache/trim":      {},
	"internal/glob":            {},
	"internal/within":          {},
	"internal/sshagent":        {},
	"internal/device":          {},
	"internal/isolation":       {},
	"internal/image":           {},
	"internal/reference":       {},
	"internal/registry":        {"internal/event", "internal/image", "internal/reference"},

	// Networks of containers: the parts do not know each other.
	"internal/network":         {"internal/network/..."},
	"internal/network/port":    {},
	"internal/network/netns":   {},
	"internal/network/bridge":  {"internal/network/netns"},
	"internal/network/forward": {"internal/network/port"},
	"internal/network/usernet": {},
	"internal/network/nettest": {"internal/network/netns"},

	// A cache as an image in a registry.
	"internal/cache/portable": {"internal/cache", "internal/image", "internal/registry", "internal/registry/lazy"},

	// Parts: each turns one thing into another.
	"internal/layer":   {},
	"internal/compare": {"internal/image", "internal/layer", "internal/rootfs"},
	"internal/rootfs":  {"internal/layer"},
	"internal/sandbox": {"internal/rootfs"},
	// Containers by the command line of an OCI runtime.
	"internal/bundle": {"internal/sandbox"},
	// Mounts of containers, and the volumes of a store.
	"internal/volume":     {"internal/layer", "internal/rootfs", "internal/sandbox"},
	"internal/dockerfile": {},
	"internal/graph":      {"internal/dockerfile", "internal/image", "internal/reference"},
	"internal/source":     {"internal/layer"},
	// Bytes from elsewhere into files.
	"internal/source/remote": {},
	// What COPY and ADD put where: trees in, files of a layer out.
	"internal/copier": {"internal/graph", "internal/layer", "internal/rootfs", "internal/source"},

	// What differs between a step and the records of earlier builds, in words.
	"internal/explain": {"internal/cache", "internal/cache/note", "internal/graph"},

	// Media: implementations of the registry contract, which do not know each other.
	"internal/registry/store": {"internal/cache", "internal/cache/trim", "internal/event", "internal/image", "internal/layer", "internal/registry", "internal/rootfs"},
	// What leaves the store: it knows the store, and hands it on as the contract.
	"internal/registry/compressed": {"internal/event", "internal/image", "internal/layer", "internal/registry", "internal/registry/store"},
	// Layers that a store does not have yet, and where they are.
	"internal/registry/lazy": {"internal/event", "internal/registry"},
	// The store as others see it from outside.
	"internal/registry/hosted":       {"internal/glob", "internal/image", "internal/registry", "internal/registry/store"},
	"internal/registry/layout":       {"internal/image", "internal/registry"},
	"internal/registry/archive":      {"internal/image", "internal/layer", "internal/registry"},
	"internal/registry/remote":       {"internal/image", "internal/reference", "internal/registry"},
	"internal/registry/s3":           {"internal/image", "internal/registry"},
	"internal/registry/mem":          {"internal/image", "internal/registry"},
	"internal/registry/registrytest": {"internal/event", "internal/image", "internal/registry", "internal/registry/mem"},

	// A registry for others to use: configuration, and who may do what.
	"internal/serve/config":     {},
	"internal/serve/watch":      {},
	"internal/serve/auth":       {"internal/glob", "internal/serve/config", "internal/serve/watch"},
	"internal/serve/webhook":    {"internal/glob"},
	"internal/serve/metrics":    {},
	"internal/registry/through": {"internal/image", "internal/registry"},
	"internal/serve":            {"internal/registry", "internal/registry/server", "internal/serve/..."},
	// What is to be copied where, read from a list.
	"internal/registry/mirror": {"internal/image", "internal/registry"},

	// Any of these media over HTTP. What it is tested with is a medium of its own.
	"internal/registry/server":            {"internal/image", "internal/registry"},
	"internal/registry/server/servertest": {"internal/image", "internal/registry", "internal/registry/mem", "internal/registry/registrytest", "internal/registry/server"},

	// The one place that knows the parts. It does not know who shows what it says.
	"internal/build": {
		"internal/cache", "internal/cache/note", "internal/cache/portable", "internal/compare", "internal/copier", "internal/device", "internal/dockerfile", "internal/event", "internal/explain", "internal/graph", "internal/image",
		"internal/layer", "internal/network", "internal/registry", "internal/registry/compressed", "internal/registry/layout", "internal/registry/lazy", "internal/registry/store", "internal/rootfs", "internal/sandbox", "internal/source", "internal/source/remote",
	},

	// Images for several platforms made of images that are here or elsewhere.
	"internal/manifest": {"internal/image", "internal/registry", "internal/registry/store"},

	// What an output of a build asks for.
	"internal/export": {"internal/image", "internal/layer", "internal/registry", "internal/registry/compressed", "internal/registry/store"},

	// The files of an image that may be anywhere, and images made of images.
	"internal/imagefs": {"internal/event", "internal/image", "internal/layer", "internal/registry", "internal/rootfs"},
	"internal/edit":    {"internal/compare", "internal/export", "internal/image", "internal/imagefs", "internal/layer", "internal/registry", "internal/rootfs", "internal/source"},

	// Faces: events in, text out.
	// Long-lived sandboxes on the store.
	"internal/container": {"internal/device", "internal/image", "internal/layer", "internal/network", "internal/registry", "internal/registry/store", "internal/rootfs", "internal/sandbox", "internal/volume", "internal/within"},

	"internal/ui/text": {"internal/event"},
	"internal/ui/json": {"internal/event"},
	// Commands in, manual pages out.
	"internal/ui/manual": {},

	"cmd/nacre": {"internal/..."},

	// Outside of the product: measured and driven as a program.
	"bench":        {},
	"bench/writer": {},
	"bench/floor":  {},
	"test/escape":  {},
}

// never are arrows that no table entry may allow, wherever it stands. They are written
// down apart so that widening the table above cannot quietly undo them.
var never = []struct{ from, to, why string }{
	{"internal/build", "internal/ui/...", "the engine emits events and never prints"},
	{"internal/cache", "internal/graph", "a cache maps keys; it does not know what a step is"},
	{"internal/image", "internal/registry/...", "values know no storage"},
	{"internal/registry", "internal/registry/...", "a contract does not know its implementations"},
	{"internal/graph", "internal/source", "planning reads no file"},
	{"internal/graph", "internal/sandbox", "planning runs no program"},
	{"internal/graph", "internal/registry/...", "planning asks no store"},
	{"internal/ui/...", "internal/build", "a face shows events, whoever sent them"},
	{"internal/...", "cmd/...", "main is nobody's library"},
}

func TestArrows(t *testing.T) {
	pkgs := imports(t, "../..")
	for _, pkg := range sorted(pkgs) {
		allowed, known := arrows[pkg]
		if !known {
			t.Errorf("%s is not in the table: say there what it may import", pkg)
			continue
		}
		for _, imp := range pkgs[pkg] {
			if !slices.ContainsFunc(allowed, func(pattern string) bool { return matches(pattern, imp) }) {
				t.Errorf("%s imports %s: the design has no such arrow", pkg, imp)
			}
			for _, n := range never {
				if matches(n.from, pkg) && matches(n.to, imp) {
					t.Errorf("%s imports %s: %s", pkg, imp, n.why)
				}
			}
		}
	}
}

// TestTable keeps the table itself honest: it has no arrow that never may be, and
// no circle.
func TestTable(t *testing.T) {
	for from, tos := range arrows {
		for _, to := range tos {
			for _, n := range never {
				if matches(n.from, from) && matches(n.to, to) {
					t.Errorf("the table allows %s → %s, which must not be: %s", from, to, n.why)
				}
			}
		}
	}
	state := map[string]int{} // 1 being visited, 2 done
	var visit func(pkg string, path []string)
	visit = func(pkg string, path []string) {
		path = append(path, pkg)
		switch state[pkg] {
		case 1:
			t.Errorf("the table has a circle: %s", strings.Join(path, " → "))
			return
		case 2:
			return
		}
		state[pkg] = 1
		for _, to := range arrows[pkg] {
			visit(to, path)
		}
		state[pkg] = 2
	}
	for pkg := range arrows {
		visit(pkg, nil)
	}
}

// matches tells whether pkg is pattern, or below it where pattern ends in "/...".
func matches(pattern, pkg string) bool {
	root, tree := strings.CutSuffix(pattern, "/...")
	return pkg == root || tree && strings.HasPrefix(pkg, root+"/")
}

// imports returns, for every package below root that has code outside of tests, the
// packages of this module it imports, both relative to the module.
func imports(t *testing.T, root string) map[string][]string {
	t.Helper()
	pkgs := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "conformance") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		found := pkgs[pkg]
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if own, ok := strings.CutPrefix(imp, "nacre/"); ok && !slices.Contains(found, own) {
				found = append(found, own)
			}
		}
		pkgs[pkg] = found
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages found below %s: this test is not looking at the module", len(pkgs), root)
	}
	return pkgs
}

func sorted(m map[string][]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
