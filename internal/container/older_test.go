package container_test

import (
	"os/exec"
	"slices"
	"testing"

	"nacre/internal/container"
	"nacre/internal/registry/store"
)

// TestOlderRecord: what a nacre of the first format with containers wrote of one is read.
func TestOlderRecord(t *testing.T) {
	root := t.TempDir()
	if out, err := exec.Command("tar", "-xzf", "../registry/store/testdata/format5.tar.gz", "-C", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s, err := store.Open(t.Context(), root, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cs, err := container.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	list, err := cs.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	c := list[0]
	if c.Name != "kept" || c.State.Status != container.StatusCreated || !slices.Contains(c.Config.Env, "A=b") || c.Config.Labels["of"] != "5" || !slices.Equal(c.Config.Args(), []string{"/file"}) {
		t.Errorf("%+v", c)
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if list, err := cs.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}
