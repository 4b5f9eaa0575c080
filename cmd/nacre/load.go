package main

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/registry"
	"nacre/internal/registry/archive"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func loadCommand(a *app) *cobra.Command {
	var input string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Read images from an archive",
		Long: `Read images from a tar archive that save wrote, docker's, podman's or ours, or from an
OCI layout; it may be compressed with gzip, bzip2, xz or zstd.`,
		Example: "  nacre load -i web.tar\n  podman save web:1 | nacre load",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLoad(cmd.Context(), a, input, quiet)
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "file to read (default: standard input)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "no progress")
	return cmd
}

func runLoad(ctx context.Context, a *app, input string, quiet bool) (err error) {
	from := input
	if input == "" || input == "-" {
		input, from = "-", "standard input"
		if term.IsTerminal(int(a.stdin.Fd())) {
			return &hintError{errors.New("standard input is a terminal"), "name a file with -i, or redirect"}
		}
	}
	in, err := a.input(ctx, input)
	if err != nil {
		return err
	}
	defer in.Close()
	s, err := a.store(ctx)
	if err != nil {
		return err
	}
	scratch, remove, err := s.TempDir("load")
	if err != nil {
		return err
	}
	defer remove()
	defer func() {
		if err != nil {
			err = fmt.Errorf("load %s: %w", from, err)
		}
	}()
	src, err := archive.Open(ctx, in, scratch)
	if err != nil {
		return err
	}
	defer src.Close()
	p, err := a.newProgress("auto", quiet)
	if err != nil {
		return err
	}
	loaded := 0
	for named, err := range src.Refs(ctx) {
		if err != nil {
			return p.close(err)
		}
		if err := loadImage(ctx, a, src, named, registry.CopyOptions{Sink: p.sink}); err != nil {
			return errors.Join(err, p.close(err))
		}
		loaded++
	}
	if err := p.close(nil); err != nil {
		return err
	}
	if loaded == 0 {
		return errors.New("the archive holds no image")
	}
	return nil
}

func loadImage(ctx context.Context, a *app, src registry.Reader, named registry.Named, o registry.CopyOptions) error {
	from := registry.Ref{Repo: named.Ref.Repo, Digest: named.Desc.Digest}
	as := named.Ref
	if as.Tag == "" {
		as.Digest = named.Desc.Digest
	}
	d, err := registry.Copy(ctx, a.opened, as, src, from, o)
	if err != nil {
		return err
	}
	if as.Tag != "" {
		fmt.Fprintln(a.stdout, "Loaded image:", as.Familiar())
		return nil
	}
	img, err := a.opened.Lookup(ctx, d.Digest.String())
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "Loaded image ID:", img.ID)
	return nil
}
