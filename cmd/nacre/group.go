package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// group is what a command does that only has commands below it: it explains itself, and
// refuses what is not one of them.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return &hintError{err, "did you mean " + strings.Join(near, " or ") + "?"}
	}
	return &hintError{err, "see " + cmd.CommandPath() + " --help"}
}

// noArgs is for commands that take flags alone.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &hintError{fmt.Errorf("%s takes no arguments: %q", cmd.Name(), args[0]), "see " + cmd.CommandPath() + " --help"}
}

// helpCommand is "help COMMAND", another way to say "COMMAND --help".
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Show the help of a command",
		Example: "  nacre help build\n  nacre help image ls",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if c.HasSubCommands() && len(rest) > 0 {
				return group(c, rest)
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// completionCommand prints completion scripts, which call nacre back to complete names.
func completionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|fish|powershell|zsh",
		Short: "Print completions for a shell",
		Long:  "Print completions for a shell. Bash's need its package bash-completion.",
		Example: `  nacre completion bash >/etc/bash_completion.d/nacre
  nacre completion zsh >"${fpath[1]}/_nacre"
  nacre completion fish >~/.config/fish/completions/nacre.fish`,
		Args:      exactArgs(1, "completion needs a shell: bash, fish, powershell or zsh"),
		ValidArgs: []string{"bash", "fish", "powershell", "zsh"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.stdout)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			}
			return fmt.Errorf("completion %q: want bash, fish, powershell or zsh", args[0])
		},
	}
}
