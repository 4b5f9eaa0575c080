package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set when a release is built, by -ldflags "-X main.version=...".
var version = "dev"

func versionCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the version",
		Example: "  nacre version\n  nacre version --format '{{.Version}}'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			v := versionInfo{Version: version, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH}
			if b, ok := debug.ReadBuildInfo(); ok {
				for _, s := range b.Settings {
					if s.Key == "vcs.revision" {
						v.GitCommit = s.Value
					}
				}
			}
			if format != "" {
				return render(a.stdout, format, nil, []versionInfo{v})
			}
			fmt.Fprintf(a.stdout, "Version:    %s\nGo version: %s\nOS/Arch:    %s/%s\n", v.Version, v.GoVersion, v.Os, v.Arch)
			if v.GitCommit != "" {
				fmt.Fprintf(a.stdout, "Git commit: %s\n", v.GitCommit)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `"json" or a Go template`)
	return cmd
}

type versionInfo struct{ Version, GitCommit, GoVersion, Os, Arch string }
