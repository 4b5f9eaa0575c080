package main

import (
	"os"
	"path/filepath"
	"runtime/debug"

	"nacre/internal/ui/manual"

	"github.com/spf13/cobra"
)

// manualCommand writes the manual, for those who make packages; it is not shown in help.
func manualCommand(a *app) *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:     "manual DIR",
		Short:   "Write manual pages of all commands to a folder",
		Example: "  nacre manual man/man1\n  nacre manual --markdown docs",
		Hidden:  true,
		Args:    exactArgs(1, "manual needs a folder to write to"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if err := os.MkdirAll(args[0], 0o777); err != nil {
				return err
			}
			if markdown {
				return os.WriteFile(filepath.Join(args[0], "commands.md"), manual.Markdown(root, manualIntro), 0o666)
			}
			for name, page := range manual.Pages(root, manual.Options{Version: version, Date: versionDate(), Sections: manualSections}) {
				if err := os.WriteFile(filepath.Join(args[0], name), page, 0o666); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "write commands.md, one page with all commands")
	return cmd
}

// versionDate is the day of the commit that this program was made of.
func versionDate() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.time" && len(s.Value) >= len("2006-01-02") {
				return s.Value[:len("2006-01-02")]
			}
		}
	}
	return "2026-01-01"
}

const manualIntro = "# Commands\n\n" +
	"All commands with their flags and examples, as `--help` shows them; `make docs` writes this page. `--root` and `--log-level` are flags of every\n" +
	"command. [exit-codes.md](exit-codes.md) says what exit codes mean.\n"

// manualSections end the page nacre(1).
var manualSections = []manual.Section{
	{Title: "Exit status", Items: []manual.Item{
		{Term: "0", Text: "All was done."},
		{Term: "1", Text: "Something was not; standard error says what."},
		{Term: "125", Text: "A flag is wrong, or run itself failed, not the program in the container."},
		{Term: "126, 127", Text: "The program could not be executed; it was not found."},
		{Term: "128+N", Text: "The program was killed by signal N. 130 is also that nacre itself was interrupted."},
		{Term: "others", Text: "Of run, exec and start -a: the program's own."},
	}},
	{Title: "Environment", Items: []manual.Item{
		{Term: "NACRE_ROOT", Text: "The folder of the store, as --root."},
		{Term: "NACRE_ISOLATION", Text: "How programs are kept apart from this machine, as --isolation."},
		{Term: "NACRE_REGISTRIES", Text: "A file in place of registries.toml in /etc/nacre and ~/.config/nacre."},
		{Term: "DOCKER_CONFIG", Text: "The folder of docker's config.json, which has credentials for registries, formats of lists and what is not to be pruned."},
		{Term: "NO_COLOR", Text: "No colours."},
	}},
	{Title: "Files", Items: []manual.Item{
		{Term: "/var/lib/nacre", Text: "The store of root."},
		{Term: "~/.local/share/nacre", Text: "The stores of others."},
	}},
}
