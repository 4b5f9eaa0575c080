package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"nacre/internal/container"
	"nacre/internal/layer"
	"nacre/internal/within"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type cpFlags struct{ archive, follow, quiet bool }

func cpCommand(a *app) *cobra.Command {
	var f cpFlags
	cmd := &cobra.Command{
		Use:   "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n  nacre cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		Short: "Copy files between a container and here",
		Long: `Copy files and directories between a container, running or not, and here. "-" is a tar stream. What comes out
of a container is yours; what goes in keeps its owner, or with -a gets the container's user.

A directory is copied into one that is there, and as one that is not; DIR/. is what is in DIR.`,
		Example: `  nacre cp web:/etc/nginx/nginx.conf .
  nacre cp site/. web:/usr/share/nginx/html
  nacre cp web:/var/log - | tar -tv`,
		Args:              exactArgs(2, "cp needs a source and a destination"),
		ValidArgsFunction: a.completeCopy,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCp(cmd.Context(), a, f, args[0], args[1])
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.archive, "archive", "a", false, "give what goes into the container to its user")
	fl.BoolVarP(&f.follow, "follow-link", "L", false, "copy what SRC_PATH leads to where it is a symlink")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "do not say what was copied (which a terminal alone is told)")
	return cmd
}

// completeCopy completes names of containers, with the colon, and files.
func (a *app) completeCopy(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.completeContainers(nil)(cmd, args, prefix)
	if len(args) > 1 || strings.ContainsAny(prefix, "/:.") || directive == cobra.ShellCompDirectiveError {
		return nil, cobra.ShellCompDirectiveDefault
	}
	for i := range names {
		names[i] += ":"
	}
	return names, cobra.ShellCompDirectiveNoSpace
}

// splitCopy splits CONTAINER:PATH. What is clearly a path here has no container.
func splitCopy(arg string) (name, file string) {
	if filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	name, file, ok := strings.Cut(arg, ":")
	if !ok {
		return "", arg
	}
	return name, file
}

func runCp(ctx context.Context, a *app, f cpFlags, from, to string) error {
	fromName, fromPath := splitCopy(from)
	toName, toPath := splitCopy(to)
	switch {
	case fromName != "" && toName != "":
		return errors.New("copying between containers is not supported")
	case fromName == "" && toName == "":
		return errors.New("must specify at least one container source")
	case fromPath == "" || toPath == "":
		return errors.New("a path is missing: it is CONTAINER:PATH")
	}
	name := fromName + toName
	c, err := a.container(ctx, name)
	if err != nil {
		return err
	}
	p := copying{a: a, c: c, f: f}
	err = c.WithRoot(ctx, func(root *os.File) (err error) {
		if p.owners, err = c.Ownership(ctx, root); err != nil {
			return err
		}
		if fromName != "" {
			return p.out(ctx, within.Open(root), fromPath, toPath)
		}
		return p.in(ctx, within.Open(root), fromPath, toPath)
	})
	if err != nil {
		return err
	}
	if !f.quiet && from != "-" && to != "-" && term.IsTerminal(int(os.Stderr.Fd())) {
		fmt.Fprintf(a.stderr, "Successfully copied %s to %s\n", humanSize(p.bytes), to)
	}
	return nil
}

// copying is one cp.
type copying struct {
	a     *app
	c     *container.Container
	f     cpFlags
	bytes int64

	owners *container.Ownership
}

func (p *copying) note(text string) { p.a.warnf("%s", text) }

// copyEnd is an end of a copy: what is there.
type copyEnd struct {
	path   string
	exists bool
	isDir  bool
}

// Errors in docker's words.
var (
	errNotDirectory = errors.New("not a directory")
	errDirNotExists = errors.New("no such directory")
	errCannotCopy   = errors.New("cannot copy directory")
)

// assertsDirectory tells whether a path says that it is one of a directory.
func assertsDirectory(name string) bool {
	return strings.HasSuffix(name, "/") || name == "." || strings.HasSuffix(name, "/.")
}

// contents tells whether a path means what is in a directory, not the directory.
func contents(name string) bool {
	return name == "." || strings.HasSuffix(name, "/.") || path.Clean("/"+name) == "/"
}

// absolute is a path of a container, with what its end says kept.
func absolute(name string) string {
	full := path.Join("/", name)
	if assertsDirectory(name) && full != "/" {
		full += "/"
	}
	return full
}

// copySource looks at what is to be copied.
func copySource(t *within.Tree, name string, follow bool) (copyEnd, error) {
	look := t.Lstat
	if follow || assertsDirectory(name) {
		look = t.Stat
	}
	info, err := look(absolute(name))
	if err != nil {
		return copyEnd{}, err
	}
	if assertsDirectory(name) && !info.IsDir() {
		return copyEnd{}, errNotDirectory
	}
	return copyEnd{name, true, info.IsDir()}, nil
}

// copyTarget works out into which directory a source goes, and under which name there.
func copyTarget(src, dst copyEnd) (dir, name string, err error) {
	base := path.Base(path.Clean(src.path))
	if src.isDir && contents(src.path) {
		base = "."
	}
	switch {
	case dst.exists && dst.isDir:
		return dst.path, base, nil
	case dst.exists && src.isDir:
		return "", "", errCannotCopy
	case dst.exists && assertsDirectory(dst.path):
		return "", "", errNotDirectory
	case !dst.exists && !src.isDir && assertsDirectory(dst.path):
		return "", "", errDirNotExists
	}
	clean := path.Clean(dst.path)
	return path.Dir(clean), path.Base(clean), nil
}

// maxLinks is how many symlinks the kernel follows in one path (path_resolution(7)).
const maxLinks = 40

// followEnd is a path of a container without symlinks, also where there is nothing at its end. It is no more than a
// path: whoever opens it resolves it anew.
func followEnd(t *within.Tree, name string) string {
	left := strings.Split(path.Join("/", name), "/")
	at := "/"
	for links := 0; len(left) > 0; {
		next := left[0]
		left = left[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		info, err := t.Lstat(path.Join(at, next))
		if err != nil || !info.IsLink() {
			at = path.Join(at, next)
			continue
		}
		if links++; links > maxLinks {
			return name
		}
		if path.IsAbs(info.Link) {
			at = "/"
		}
		left = append(strings.Split(info.Link, "/"), left...)
	}
	return at
}

// out copies from the container.
func (p *copying) out(ctx context.Context, root *within.Tree, from, to string) error {
	src, err := copySource(root, from, p.f.follow)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("Could not find the file %s in container %s", from, p.c.Name) //lint:ignore ST1005 docker's words
	}
	if err != nil {
		return err
	}
	pack := func(w io.Writer, name string) error {
		return pack(ctx, w, root, absolute(from), name, within.ArchiveOptions{Follow: p.f.follow || assertsDirectory(from), Note: p.note, Owner: p.owners.Of})
	}
	if to == "-" {
		if term.IsTerminal(int(p.a.stdout.file.Fd())) {
			return &hintError{errors.New("an archive is not for a terminal"), "redirect it to a file or to tar"}
		}
		base := path.Base(absolute(from))
		if contents(from) {
			base = "."
		}
		return pack(p.a.stdout, base)
	}
	dst := copyEnd{path: to}
	if info, err := os.Stat(to); err == nil {
		dst.exists, dst.isDir = true, info.IsDir()
	}
	dir, name, err := copyTarget(src, dst)
	if err != nil {
		return err
	}
	return p.between(ctx, func(w io.Writer) error { return pack(w, name) }, func(r io.Reader) error {
		here, err := openHere(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("invalid output path: directory %q does not exist", dir)
		}
		if err != nil {
			return err
		}
		defer here.Close()
		p.bytes, err = within.Open(here).Extract(ctx, tar.NewReader(r), "/", within.ExtractOptions{Own: true, Note: p.note})
		return err
	})
}

// in copies to the container.
func (p *copying) in(ctx context.Context, root *within.Tree, from, to string) error {
	dst := copyEnd{path: to}
	if info, err := root.Stat(absolute(to)); err == nil {
		dst.exists, dst.isDir = true, info.IsDir()
	}
	if !dst.isDir && !assertsDirectory(to) {
		dst.path = followEnd(root, to) // what a symlink leads to is replaced, as docker does, and made where it is not there
	}
	o := within.ExtractOptions{Note: p.note, Give: p.owners.Give}
	if err := p.owner(root, &o); err != nil {
		return err
	}
	extract := func(r io.Reader, dir string) (err error) {
		if info, serr := root.Stat(absolute(dir)); serr != nil || !info.IsDir() {
			return fmt.Errorf("Could not find the file %s in container %s", path.Join("/", dir), p.c.Name) //lint:ignore ST1005 docker's words
		}
		p.bytes, err = root.Extract(ctx, tar.NewReader(r), absolute(dir), o)
		return err
	}
	if from == "-" {
		if !dst.isDir {
			return fmt.Errorf("destination %q must be a directory", p.c.Name+":"+to)
		}
		in, _, err := layer.Decompress(p.a.stdin)
		if err != nil {
			return err
		}
		defer in.Close()
		return extract(in, to)
	}
	full, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	machine, err := openHere("/")
	if err != nil {
		return err
	}
	defer machine.Close()
	here := within.Open(machine)
	if assertsDirectory(from) {
		full += "/"
	}
	src, err := copySource(here, full, p.f.follow)
	if err != nil {
		return err
	}
	if src.path = full; contents(from) {
		src.path = full + "."
	}
	dir, name, err := copyTarget(src, dst)
	if err != nil {
		return err
	}
	opts := within.ArchiveOptions{Follow: p.f.follow || assertsDirectory(from), Note: p.note, Owner: p.owners.Here}
	return p.between(ctx, func(w io.Writer) error { return pack(ctx, w, here, full, name, opts) },
		func(r io.Reader) error { return extract(r, dir) })
}

// owner is whose everything becomes with -a: the container's user, if it has one.
func (p *copying) owner(root *within.Tree, o *within.ExtractOptions) error {
	if !p.f.archive || p.c.Config.User == "" {
		return nil
	}
	u, err := container.LookupUser(root, p.c.Config.User)
	o.Owner = &within.Owner{UID: u.UID, GID: u.GID}
	return err
}

// openHere opens a directory of this machine.
func openHere(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: dir, Err: errNotDirectory}
	}
	return f, nil
}

// pack writes a tar of what is at a path.
func pack(ctx context.Context, w io.Writer, t *within.Tree, from, name string, o within.ArchiveOptions) error {
	tw := tar.NewWriter(w)
	if err := t.Archive(ctx, tw, from, name, o); err != nil {
		return err
	}
	return tw.Close()
}

// between has write make the tar that read reads.
func (p *copying) between(ctx context.Context, write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		written <- err
	}()
	err := read(r)
	r.CloseWithError(errors.New("nobody reads any more"))
	if werr := <-written; err == nil {
		return werr
	}
	return err
}
