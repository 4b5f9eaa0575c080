package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func cacheExportCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] [ID...]",
		Short: "Write cache mounts, by their IDs or all, to an archive (tar, zstd)",
		Example: "  nacre builder cache export -o caches.tar.zst\n" +
			"  nacre builder cache export go-build /root/.cache | ssh other nacre builder cache import",
		RunE: func(cmd *cobra.Command, ids []string) error {
			if file == "" && term.IsTerminal(int(a.stdout.file.Fd())) {
				return &hintError{errors.New("an archive is not for a terminal"), "name a file with -o, or redirect"}
			}
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			export := func(w io.Writer) error {
				list, err := s.ExportCacheDirs(cmd.Context(), w, ids)
				for _, c := range list {
					fmt.Fprintf(a.stderr, "exported %s %s\n", c.ID, humanSize(c.Size))
				}
				return err
			}
			if file == "" {
				return export(a.stdout)
			}
			return replaceFile(file, export)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

func cacheImportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "import [FILE]",
		Short:   "Read cache mounts from an archive; those of the same ID are replaced",
		Example: "  nacre builder cache import caches.tar.zst",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var in io.Reader = a.stdin
			if len(args) > 0 && args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			list, err := s.ImportCacheDirs(cmd.Context(), in)
			for _, c := range list {
				fmt.Fprintf(a.stderr, "imported %s %s\n", c.ID, humanSize(c.Size))
			}
			return err
		},
	}
}
