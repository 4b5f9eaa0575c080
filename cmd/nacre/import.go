package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"time"

	"nacre/internal/build"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
)

type importFlags struct {
	changes           []string
	message, platform string
}

func importCommand(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] FILE|URL|- [REPOSITORY[:TAG]]",
		Short: "Make an image of one layer from a tar of a root file system",
		Long: `Make an image of one layer from a tar of a root file system, which may be compressed with gzip, bzip2, xz or zstd.
Changes are those that docker takes: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and
WORKDIR; also MAINTAINER and SHELL.`,
		Example: `  nacre import rootfs.tar debian:12
  nacre import https://example.com/rootfs.tar.xz example:1
  debootstrap --variant=minbase bookworm root && tar -C root -c . | nacre import -c 'CMD ["bash"]' - debian:12`,
		Args: cobra.MatchAll(minArgs(1, "import needs a tar file, a URL, or -"), maxArgs(2, "import takes a tar file and a name")),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runImport(cmd.Context(), a, f, args)
		},
	}
	listVar(cmd.Flags(), &f.changes, "change", "c", "Dockerfile instruction to apply, such as 'CMD [\"sh\"]'; may be repeated")
	cmd.Flags().StringVarP(&f.message, "message", "m", "", "comment for the image's history")
	cmd.Flags().StringVar(&f.platform, "platform", "", "platform of the image (default: this machine's)")
	return cmd
}

func runImport(ctx context.Context, a *app, f importFlags, args []string) error {
	var names []registry.Ref
	if len(args) == 2 {
		ref, err := newName(args[1])
		if err != nil {
			return err
		}
		names = append(names, ref)
	}
	platform := image.DefaultPlatform()
	if f.platform != "" {
		var err error
		if platform, err = parsePlatform(f.platform); err != nil {
			return err
		}
	}
	created, err := creation()
	if err != nil {
		return err
	}
	cfg, err := build.Imported(ctx, platform, f.changes, f.comment(args[0]), created)
	if err != nil {
		return err
	}
	in, err := a.importSource(ctx, args[0])
	if err != nil {
		return err
	}
	defer in.Close()
	s, err := a.store(ctx)
	if err != nil {
		return err
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	info, err := s.MakeLayer(ctx, lease, func(dir string) (layer.Info, error) {
		return layer.Ingest(ctx, dir, in, layer.IngestOptions{})
	})
	if err != nil {
		return fmt.Errorf("import %s: %w", args[0], err)
	}
	as, err := image.Assemble(cfg, []image.Layer{{DiffID: info.DiffID, Size: info.Size}})
	if err != nil {
		return err
	}
	img, err := s.PutImage(ctx, lease, store.NewImage{Config: as.Config, Manifest: as.Manifest}, names)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, img.ID)
	return nil
}

// comment is docker's. Where a file is on this machine is nobody's business, and would make another image of the same files.
func (f importFlags) comment(name string) string {
	if f.message != "" {
		return f.message
	}
	if u, err := url.Parse(name); err == nil && isURL(name) {
		return "Imported from " + u.Redacted()
	}
	return "Imported from -"
}

// creation is the time an image is made at: SOURCE_DATE_EPOCH, or now.
func creation() (time.Time, error) {
	v := os.Getenv("SOURCE_DATE_EPOCH")
	if v == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(v, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("invalid SOURCE_DATE_EPOCH %q: it is a number of seconds since 1970", v)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
