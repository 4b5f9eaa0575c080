package main

import (
	"fmt"

	"nacre/internal/registry/store"

	"github.com/spf13/cobra"
)

func systemCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "system",
		Short:   "Look after the store: disk usage, integrity, cleaning up",
		Example: "  nacre system df\n  nacre system check --repair",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cmd.AddCommand(dfCommand(a), checkCommand(a), pruneCommand(a))
	return cmd
}

func checkCommand(a *app) *cobra.Command {
	var repair bool
	var progressKind string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Prove that the store is whole: hash everything, compare everything",
		Long: `Hash every blob and layer, compare every index with its layer and every record with its
files. Without --repair nothing is changed, and problems make the exit code 1. With --repair
what is wrong is dropped or made anew, and never what is right.`,
		Example: "  nacre system check\n  nacre system check --repair",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.storeToCheck(cmd.Context(), repair)
			if err != nil {
				return err
			}
			p, err := a.newProgress(progressKind, false)
			if err != nil {
				return err
			}
			r, err := s.Check(cmd.Context(), repair, p.sink)
			if cerr := p.close(err); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
			volumes, err := checkVolumes(s, repair)
			if err != nil {
				return err
			}
			r.Problems = append(r.Problems, volumes...)
			return printCheck(a, r, repair)
		},
	}
	cmd.Flags().StringVar(&progressKind, "progress", "auto", "how progress is shown: auto, plain, tty, rawjson or quiet")
	cmd.Flags().BoolVar(&repair, "repair", false, "drop or rebuild what is wrong")
	return cmd
}

// printCheck reports what check found; what is wrong still makes it an error.
func printCheck(a *app, r store.CheckReport, repair bool) error {
	wrong := 0
	for _, p := range r.Problems {
		state := "wrong"
		if p.Repaired {
			state = "repaired"
		} else {
			wrong++
		}
		fmt.Fprintf(a.stdout, "%s: %s\n", state, p)
	}
	fmt.Fprintf(a.stdout, "checked %d images, %d names, %d layers, %d blobs, %d containers, %d cache records: %s hashed\n",
		r.Images, r.Names, r.Layers, r.Blobs, r.Containers, r.Records, humanSize(r.Bytes))
	if r.Leftovers > 0 && !repair {
		fmt.Fprintf(a.stdout, "%d harmless leftovers of processes that died\n", r.Leftovers)
	}
	if wrong == 0 {
		fmt.Fprintln(a.stdout, "the store is whole")
		return nil
	}
	err := fmt.Errorf("%d problems", wrong)
	if repair {
		return err
	}
	return &hintError{err, "nacre system check --repair drops or rebuilds what is wrong"}
}
