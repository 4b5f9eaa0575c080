package build

import (
	"context"
	"os"
	"path/filepath"

	"nacre/internal/copier"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"
)

// bind mounts files of the context or of another root. They are put together where the step's
// own root is, out of layers; what is written to them is lost with the step.
func (w *work) bind(ctx context.Context, m graph.Mount, config *sandbox.Config) error {
	t := sandbox.Tree{Path: m.Source}
	var err error
	if m.From != nil {
		t.Root, err = w.prepare(ctx, w.input(m.From).layers, m.ReadOnly)
	} else {
		t, err = w.contextFiles(ctx, m)
	}
	config.MountTree(m.Target, t, options(m)...)
	return err
}

// contextFiles is what a mount shows of the context, as a layer that goes when the
// build ends: steps that mount the same share it.
func (w *work) contextFiles(ctx context.Context, m graph.Mount) (sandbox.Tree, error) {
	lower, err := w.bound.do(boundFiles{m.Context, m.Source}, func() (rootfs.Lower, error) { return w.bindContext(ctx, m) })
	if err != nil {
		return sandbox.Tree{}, err
	}
	t := sandbox.Tree{Root: rootfs.Mount{Lower: []rootfs.Lower{lower}, UserXattr: lower.Dir != "" && rootfs.UserXattr()}, Path: boundName}
	if m.ReadOnly {
		return t, nil
	}
	dir, remove, err := w.Store.TempDir("bind")
	if err != nil {
		return t, err
	}
	w.temp = append(w.temp, remove)
	t.Root.Upper, t.Root.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{t.Root.Upper, t.Root.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return t, err
		}
	}
	return t, nil
}

// boundFiles are those of a mount from a context.
type boundFiles struct{ context, source string }

// boundName is what the mounted file or directory is called in its layer.
const boundName = "source"

// bindContext makes the layer. No file of the context is written to the host under a
// name of its own where layers are mounted as they are.
func (w *work) bindContext(ctx context.Context, m graph.Mount) (rootfs.Lower, error) {
	t, err := w.contextNamed(m.Context).open(ctx)
	if err != nil {
		return rootfs.Lower{}, err
	}
	name, err := w.resolveSource(t, m)
	if err != nil {
		return rootfs.Lower{}, err
	}
	plan := copier.New(nil)
	if err := plan.Copy(t, name, "/"+boundName, copier.Options{Owner: &copier.Owner{}, Digest: t.Digest}); err != nil {
		return rootfs.Lower{}, err
	}
	dir, remove, err := w.Store.TempDir("bind")
	if err != nil {
		return rootfs.Lower{}, err
	}
	w.atEnd(remove)
	if _, err := layer.Write(ctx, dir, plan.Files()); err != nil {
		return rootfs.Lower{}, err
	}
	form, err := rootfs.Probe(w.Store.Root())
	if err != nil {
		return rootfs.Lower{}, err
	}
	if form == rootfs.Index {
		return rootfs.Lower{Index: filepath.Join(dir, "layer.erofs"), Data: filepath.Join(dir, "layer.tar")}, nil
	}
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return rootfs.Lower{}, err
	}
	return rootfs.Lower{Dir: files}, unpack(ctx, dir, files)
}

// copyOut copies a file or directory of f to files/ in dir, as boundName.
func copyOut(ctx context.Context, f copier.Tree, name, dir string, o copier.Options) error {
	plan := copier.New(nil)
	if err := plan.Copy(f, name, "/"+boundName, o); err != nil {
		return err
	}
	if _, err := layer.Write(ctx, dir, plan.Files()); err != nil {
		return err
	}
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	return unpack(ctx, dir, files)
}

// unpack writes the files of the layer in dir to the empty directory to.
func unpack(ctx context.Context, dir, to string) error {
	l, err := layer.Open(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	return rootfs.Unpack(ctx, l, to, rootfs.UnpackOptions{UserXattr: rootfs.UserXattr()})
}
