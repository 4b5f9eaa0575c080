package compressed_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"golang.org/x/sys/unix"
)

// TestMain lets this program be one that sends and dies.
func TestMain(m *testing.M) {
	if root := os.Getenv("COMPRESSED_TEST_DIE"); root != "" {
		at, _ := strconv.Atoi(os.Getenv("COMPRESSED_TEST_AT"))
		if err := sendAndDie(root, at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// dying kills the process at its n-th write.
type dying struct {
	*drafts
	left int
}

func (d *dying) Draft(ctx context.Context, repo string) (registry.Draft, error) {
	dr, err := d.drafts.Draft(ctx, repo)
	return &dyingDraft{dr, d}, err
}

type dyingDraft struct {
	registry.Draft
	d *dying
}

func (d *dyingDraft) Write(p []byte) (int, error) {
	d.d.hit()
	return d.Draft.Write(p)
}

func (d *dyingDraft) Commit(desc registry.Descriptor) error {
	d.d.hit()
	return d.Draft.Commit(desc)
}

func (d *dying) hit() {
	if d.left--; d.left == 0 {
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

func sendAndDie(root string, at int) error {
	s, err := store.Open(context.Background(), root, store.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	to := &dying{drafts: &drafts{Registry: mem.New()}, left: at}
	_, err = compressed.Send(context.Background(), to, registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{Parallel: 1}, registry.CopyOptions{})
	return err
}

// TestSendKilled kills a push while it compresses, in the middle and when the form is kept but not yet sent.
func TestSendKilled(t *testing.T) {
	ended := false
	for at := 1; !ended; at++ {
		root := t.TempDir() // where it was never compressed
		s := openStore(t, root)
		build(t, s, "app", 3_000_000)
		s.Close()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "COMPRESSED_TEST_DIE="+root, "COMPRESSED_TEST_AT="+strconv.Itoa(at))
		out, err := cmd.CombinedOutput()
		ended = err == nil
		if !ended && len(out) > 0 {
			t.Fatalf("at write %d: %v: %s", at, err, out)
		}
		s = openStore(t, root)
		wantSound(t, s)
		d, err := compressed.Send(t.Context(), mem.New(), registrytest.Ref("x/app"), s, registrytest.Ref("app"), compressed.Options{}, registry.CopyOptions{})
		if err != nil {
			t.Fatalf("after a kill at write %d: %v", at, err)
		}
		wantWhole(t, s, d)
		// Nothing is left of it, and the next begins anew.
		s.Close()
		s = openStore(t, root)
		if r, err := s.Prune(t.Context(), store.PruneOptions{}); err != nil || len(r.Blobs) != 1 {
			t.Errorf("pruned %v, %v; want the compressed form alone", r.Blobs, err)
		}
		s.Close()
		if names, err := os.ReadDir(filepath.Join(root, "tmp")); err != nil || len(names) > 0 {
			t.Errorf("left in tmp: %v, %v", names, err)
		}
		if ended && at < 4 {
			t.Errorf("only %d writes: the layer is compressed in more blocks", at-1)
		}
	}
}
