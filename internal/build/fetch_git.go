package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nacre/internal/cache"
	"nacre/internal/copier"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/source"
	"nacre/internal/source/remote"
)

// git gets the tree of a commit. The remote is asked what the ref is, unless that is a
// commit; what it came out as the last time is then found by the commit.
func (f *fetcher) git(ctx context.Context, op *graph.Git) (out cache.Output, cached bool, err error) {
	repo := remote.Repo{
		Remote: op.Remote, Ref: op.Ref, KeepDir: op.KeepDir && op.Subdir == "", Submodules: !op.NoSubmodules, ByUser: op.ByUser,
	}
	if repo.Authorization, err = f.gitAuth(op.Remote); err != nil {
		return out, false, err
	}
	log := f.log()
	defer log.flush()
	repo.Log, repo.Hide = func(said []byte) { log.Write(said) }, f.hidden
	if repo.SSHAgent = f.o.SSHAgent; op.ByUser && repo.SSHAgent == "" {
		repo.SSHAgent = os.Getenv("SSH_AUTH_SOCK")
	}
	commit, err := resolveCommit(ctx, repo, op)
	if err != nil {
		return out, false, err
	}
	rec := gitRecord(op, commit)
	if !f.o.NoCache {
		if out, ok, err := f.known(ctx, rec.Key); ok || err != nil {
			return out, ok, err
		}
	}
	dir, remove, err := f.Store.TempDir("git")
	if err != nil {
		return out, false, err
	}
	defer remove()
	tree, made, err := repo.Checkout(ctx, commit, dir)
	if err != nil {
		return out, false, err
	}
	if !op.CommitTime {
		made = time.Time{}
	}
	if tree, err = subdir(tree, op.Subdir); err != nil {
		return out, false, err
	}
	if out, err = f.keepTree(ctx, tree, repo.KeepDir, made); err != nil {
		return out, false, err
	}
	return out, false, f.Cache.Put(ctx, rec, out)
}

// resolveCommit finds the commit, which has to be the one that the checksum says.
func resolveCommit(ctx context.Context, repo remote.Repo, op *graph.Git) (remote.Commit, error) {
	if op.ByCommit && op.Checksum != "" {
		c := remote.Commit{Object: op.Checksum}
		if op.Ref != "" && op.Ref != op.Checksum {
			c.Ref = op.Ref
			if !strings.HasPrefix(op.Ref, "refs/") {
				c.Ref = "refs/heads/" + op.Ref
			}
		}
		return c, nil
	}
	c, err := repo.Resolve(ctx)
	if err != nil {
		return c, err
	}
	if !strings.HasPrefix(c.Object, op.Checksum) && !strings.HasPrefix(c.Peeled, op.Checksum) {
		return c, fmt.Errorf("%w: %s is commit %s, and %s is expected", ErrChecksum, name(op.Ref), c.ID(), op.Checksum)
	}
	if !op.KeepDir && c.Peeled != "" {
		c = remote.Commit{Object: c.Peeled, Ref: c.Ref} // the tag itself leaves no trace
	}
	return c, nil
}

func name(ref string) string {
	if ref == "" {
		return "the default branch"
	}
	return ref
}

// gitRecord is what decides what is in the tree.
func gitRecord(op *graph.Git, c remote.Commit) cache.Record {
	h := cache.NewHash("git/1", "git")
	h.Add("remote", graph.Redact(op.Remote))
	h.Add("object", c.Object)
	h.Add("subdir", op.Subdir)
	h.Add("submodules", strconv.FormatBool(!op.NoSubmodules))
	h.Add("commit-time", strconv.FormatBool(op.CommitTime))
	if op.KeepDir {
		h.Add("keep-git-dir", c.Ref)
	}
	return h.Sum()
}

// subdir is a folder below tree. Nothing on the way may be a symlink: it would be
// somebody else's word for where that is.
func subdir(tree, sub string) (string, error) {
	if sub == "" {
		return tree, nil
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return "", err
	}
	defer root.Close()
	at := ""
	for part := range strings.SplitSeq(sub, "/") {
		at = path.Join(at, part)
		info, err := root.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("the repository has no directory %s", sub)
		}
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			return "", fmt.Errorf("%s is no directory of the repository: %s is not one", sub, at)
		}
	}
	return filepath.Join(tree, filepath.FromSlash(sub)), nil
}

// keepTree makes a layer of a folder that git wrote. Modes are those git knows, whatever the umask;
// everything belongs to root. when, unless zero, becomes the time of all of it.
func (f *fetcher) keepTree(ctx context.Context, dir string, keepGit bool, when time.Time) (cache.Output, error) {
	t, err := source.OpenDir(ctx, dir, source.DirOptions{})
	if err != nil {
		return cache.Output{}, err
	}
	defer t.Close()
	o := copier.Options{Owner: &copier.Owner{}, Chmod: "go=u,go-w"}
	if !keepGit {
		o.Exclude = []string{".git", "**/.git"} // what submodules leave
	}
	p := copier.New(nil)
	if err := p.Copy(t, ".", "/", o); err != nil {
		return cache.Output{}, err
	}
	files := p.Files()
	if !when.IsZero() {
		files = at(files, when)
	}
	return f.keep(ctx, func(dir string) (layer.Info, error) { return layer.Write(ctx, dir, files) })
}

func at(files iter.Seq2[layer.File, error], when time.Time) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		for f, err := range files {
			f.ModTime = when
			if !yield(f, err) {
				return
			}
		}
	}
}
