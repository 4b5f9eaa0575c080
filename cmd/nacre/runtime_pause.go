package main

import (
	"nacre/internal/bundle"

	"github.com/spf13/cobra"
)

func runtimePause(a *app, f *runtimeFlags) *cobra.Command {
	return f.onOne("pause", "Let all processes of a container stand still", bundle.Runtime.Pause)
}

func runtimeResume(a *app, f *runtimeFlags) *cobra.Command {
	return f.onOne("resume", "Let the processes of a container that is paused go on", bundle.Runtime.Resume)
}

// onOne is a command that does something to one container.
func (f *runtimeFlags) onOne(name, short string, do func(bundle.Runtime, string) error) *cobra.Command {
	return &cobra.Command{
		Use:     name + " ID",
		Short:   short,
		Example: "  nacre runtime " + name + " web",
		Args:    exactArgs(1, needsID),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.logged(do(f.runtime(), args[0]))
		},
	}
}
