package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nacre/internal/registry"
	"nacre/internal/registry/archive"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func saveCommand(a *app) *cobra.Command {
	var output, format string
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE [IMAGE...]",
		Short: "Write images to a tar archive",
		Long: `Write images to a tar archive. The docker format (the default) is what "docker load",
podman and skopeo read, and is an OCI layout at the same time; the oci format is an OCI layout alone.`,
		Example:           "  nacre save -o web.tar web:1\n  nacre save web:1 | gzip >web.tar.gz\n  nacre save --format oci -o web.oci.tar web:1",
		Args:              minArgs(1, "save needs at least one image"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSave(cmd.Context(), a, output, format, args)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	cmd.Flags().StringVar(&format, "format", "docker", "docker or oci")
	return cmd
}

func runSave(ctx context.Context, a *app, output, format string, names []string) (err error) {
	kind := archive.Docker
	switch format {
	case "docker", "docker-archive":
	case "oci", "oci-archive":
		kind = archive.OCI
	default:
		return fmt.Errorf("--format=%s: want docker or oci", format)
	}
	if output == "" && term.IsTerminal(int(a.stdout.file.Fd())) {
		return &hintError{errors.New("an archive is not for a terminal"), "name a file with -o, or redirect"}
	}
	images := make([]saving, len(names))
	for i, name := range names {
		if images[i], err = a.saving(ctx, name); err != nil {
			return err
		}
	}
	if output == "" {
		return writeArchive(ctx, a, a.stdout, kind, images)
	}
	return replaceFile(output, func(w io.Writer) error { return writeArchive(ctx, a, w, kind, images) })
}

// saving is an image to be saved, and the name it is to have in the archive.
type saving struct{ from, as registry.Ref }

func (a *app) saving(ctx context.Context, name string) (saving, error) {
	img, err := a.holdImage(ctx, name)
	if err != nil {
		return saving{}, err
	}
	from := registry.Ref{Digest: img.Target.Digest}
	as := from
	// An image asked for by name keeps that name; by ID, it has none, as with docker.
	if ref, err := registry.ParseRef(name); err == nil && !strings.HasPrefix(img.ID.Encoded(), strings.TrimPrefix(name, "sha256:")) {
		as = ref
		as.Digest = ""
	}
	return saving{from, as}, nil
}

func writeArchive(ctx context.Context, a *app, w io.Writer, kind archive.Kind, images []saving) error {
	dst := archive.Create(w, kind)
	for _, img := range images {
		if _, err := registry.Copy(ctx, dst, img.as, a.opened, img.from, registry.CopyOptions{Partial: true}); err != nil {
			return err
		}
	}
	return dst.Close()
}

// replaceFile writes a file whole or not at all: what was at path before stays
// until the new one is complete. Permissions are those of the old one, or what the umask leaves.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, serr := os.Stat(path)
	if serr == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // a device or a pipe, such as /dev/null
		if err != nil {
			return bare(err)
		}
		return writeAll(f, write)
	}
	temp := filepath.Join(filepath.Dir(path), ".nacre-"+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return bare(err)
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if serr == nil {
		f.Chmod(info.Mode().Perm())
	}
	if err := writeAll(f, write); err != nil {
		return err
	}
	return bare(os.Rename(temp, path))
}

// writeAll writes and closes f. That f could not be written is the whole error then,
// not what it made impossible.
func writeAll(f *os.File, write func(io.Writer) error) error {
	out := &output{file: f}
	err := write(out)
	if out.err != nil {
		err = bare(out.err)
	}
	return errors.Join(err, f.Close())
}

// bare is an error without the path in it, which would be that of the temporary file.
func bare(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}
