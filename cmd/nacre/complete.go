package main

import (
	"slices"
	"strings"

	"nacre/internal/registry"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Completions are asked for by the scripts that completion prints, as nacre __complete WORD...; what is made for them
// costs other commands nothing.

// completing gives the words to complete, the last of which is being typed, where that is what args ask for.
func completing(args []string) (words []string, ok bool) {
	if len(args) < 2 || args[0] != cobra.ShellCompRequestCmd && args[0] != cobra.ShellCompNoDescRequestCmd {
		return nil, false
	}
	return args[1:], true
}

// completeFlags has the values of flags completed, of all commands that root has.
func completeFlags(root *cobra.Command, a *app) {
	values := a.flagValues()
	for _, c := range slices.Insert(slices.Clone(root.Commands()), 0, root) {
		if c != root {
			completeFlags(c, a)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			complete := values[c.Name()+" --"+f.Name]
			if complete == nil {
				complete = values["--"+f.Name]
			}
			if complete != nil && f.Value.Type() != "bool" {
				c.RegisterFlagCompletionFunc(f.Name, complete) // the one error is that there is one already
			}
		})
	}
}

// oneOf completes to one of some words.
func oneOf(words ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// keys completes KEY=VALUE: first the keys, then the values of those that are known.
func keys(values map[string]cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		key, value, ok := strings.Cut(prefix, "=")
		if complete := values[key]; ok && complete != nil {
			words, directive := complete(cmd, args, value)
			words = slices.Clone(words)
			for i := range words {
				words[i] = key + "=" + words[i]
			}
			return words, directive
		}
		var words []string
		for k := range values {
			words = append(words, k+"=")
		}
		slices.Sort(words)
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// anything is what only the user knows.
func anything(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// both completes to what either knows.
func both(f, g cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		words, _ := f(cmd, args, prefix)
		more, directive := g(cmd, args, prefix)
		return append(slices.Clone(words), more...), directive
	}
}

// each completes every argument, with what is not among the earlier ones.
func each(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		words, directive := f(cmd, args, prefix)
		return slices.DeleteFunc(words, func(w string) bool { return slices.Contains(args, w) }), directive
	}
}

// completeImage completes the first argument, where it alone is an image.
func (a *app) completeImage(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeImages(cmd, args, prefix)
}

// completeImages completes names of images. There may be thousands: what does not begin with prefix is not printed.
func (a *app) completeImages(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	s, err := a.store(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for n, err := range s.Refs(cmd.Context()) {
		if err != nil {
			break
		}
		if name := n.Ref.Familiar(); n.Ref.Digest == "" && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeRepositories completes names of images without tags, as they are known here.
func (a *app) completeRepositories(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	s, err := a.store(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for n, err := range s.Refs(cmd.Context()) {
		if err != nil {
			break
		}
		if name := (registry.Ref{Repo: n.Ref.Repo}).FamiliarRepo(); strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
