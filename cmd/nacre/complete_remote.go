package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/remote"

	"github.com/spf13/cobra"
)

// What is typed must not wait long for a registry, nor be hidden by thousands of tags.
const (
	completionWait = 2 * time.Second
	completionTags = 1000
)

// completeRemote completes the name of an image in a registry: names as they are known here, and after a colon the tags that the
// registry has. Where it does not answer there is no error, but nothing more.
func (a *app) completeRemote(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.completeImages(cmd, args, prefix)
	bare, scheme := prefix, ""
	if rest, ok := strings.CutPrefix(prefix, "docker://"); ok {
		bare, scheme = rest, "docker://"
	}
	colon := strings.LastIndexByte(bare, ':')
	if colon <= 0 || strings.ContainsAny(bare[colon:], "/@") || strings.Contains(bare, "@") {
		return names, directive
	}
	ref, err := registry.ParseRef(bare[:colon])
	if err != nil {
		return names, directive
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionWait)
	defer cancel()
	r, err := a.remote(ctx)
	if err != nil {
		return names, directive
	}
	for tag, err := range registry.Tags(ctx, r, ref.Repo, "") {
		if err != nil || len(names) >= completionTags {
			break
		}
		if strings.HasPrefix(tag, bare[colon+1:]) {
			names = append(names, scheme+bare[:colon+1]+tag)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), directive
}

// completeHost completes a registry's host: those with credentials, and more those that names of images here have.
func (a *app) completeHost(more bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		hosts, _ := remote.DefaultCredentials().Domains()
		if s, err := a.store(cmd.Context()); more && err == nil {
			for n, err := range s.Refs(cmd.Context()) {
				if err != nil {
					break
				}
				host, _, _ := strings.Cut(n.Ref.Repo, "/")
				hosts = append(hosts, host)
			}
		}
		slices.Sort(hosts)
		hosts = slices.DeleteFunc(slices.Compact(hosts), func(h string) bool { return !strings.HasPrefix(h, prefix) })
		return hosts, cobra.ShellCompDirectiveNoFileComp
	}
}
