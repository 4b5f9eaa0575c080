package main

import (
	"os"
	"path/filepath"
	"strings"

	"nacre/internal/dockerfile"
	"nacre/internal/sandbox"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// flagValues are what flags may be given, by "COMMAND --FLAG" or for all commands by "--FLAG". Flags that are not here
// take files, or what only the user knows.
func (a *app) flagValues() map[string]cobra.CompletionFunc {
	yes := oneOf("true", "false")
	images, containers := cobra.CompletionFunc(a.completeImages), a.completeContainers(nil)
	list := oneOf("json", "table")
	return map[string]cobra.CompletionFunc{
		"--log-level":     oneOf("error", "warn", "info", "debug"),
		"--progress":      oneOf("auto", "plain", "tty", "rawjson", "quiet"),
		"--format":        list,
		"save --format":   oneOf("docker", "oci"),
		"--platform":      oneOf("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/s390x", "linux/riscv64", "linux/loong64"),
		"--type":          oneOf("image", "container", "volume"),
		"--compression":   oneOf("gzip", "zstd", "estargz", "uncompressed"),
		"--network":       a.completeNetwork,
		"build --network": oneOf("default", "host", "none"),
		"--net":           a.completeNetwork,
		"--pull":          oneOf("always", "missing", "never"),
		"--restart":       oneOf("no", "always", "on-failure", "unless-stopped"),
		"--target":        completeTarget,
		"--signal":        completeSignal,
		"--stop-signal":   completeSignal,
		"--cap-add":       completeCapability,
		"--cap-drop":      completeCapability,
		"--pid":           both(oneOf("host"), a.containerOf("container:")),
		"--ipc":           both(oneOf("host", "none", "private", "shareable"), a.containerOf("container:")),
		"--uts":           oneOf("host"),
		"--cgroupns":      oneOf("host", "private"),
		"--attach":        oneOf("stdin", "stdout", "stderr"),
		"--log-driver":    oneOf("json-file", "none"),
		"--volumes-from":  a.containerOf(""),
		"--volume":        a.completeMount,
		"--tag":           images,
		"--cache-from":    keysOf("type", "gha", "inline", "local", "registry", "s3"),
		"--cache-to":      keysOf("type", "inline", "local", "registry", "s3"),
		"--output":        keysOf("type", "docker", "image", "local", "oci", "registry", "tar"),
		"--mount":         keysOf("type", "bind", "image", "tmpfs", "volume"),

		"--filter": keys(map[string]cobra.CompletionFunc{"label": anything, "label!": anything, "until": anything}),
		"images --filter": keys(map[string]cobra.CompletionFunc{
			"before": images, "dangling": yes, "label": anything, "reference": anything, "since": images, "until": anything}),
		"ps --filter": keys(map[string]cobra.CompletionFunc{
			"ancestor": images, "before": containers, "exited": anything, "expose": anything, "health": oneOf("starting", "healthy", "unhealthy", "none"),
			"id": anything, "label": anything, "name": containers, "network": oneOf("bridge", "host", "none"), "publish": anything, "since": containers,
			"status": oneOf("created", "running", "paused", "restarting", "exited", "dead", "removing"), "volume": a.completeVolumes}),
	}
}

// keysOf completes KEY=ONE-OF, with more after a comma.
func keysOf(key string, words ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		out := make([]string, len(words))
		for i, w := range words {
			out[i] = key + "=" + w
		}
		return out, cobra.ShellCompDirectiveNoSpace
	}
}

// containerOf completes names of containers after a word.
func (a *app) containerOf(before string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		names, directive := a.completeContainers(nil)(cmd, args, strings.TrimPrefix(prefix, before))
		for i := range names {
			names[i] = before + names[i]
		}
		return names, directive
	}
}

func (a *app) completeNetwork(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return both(oneOf("bridge", "host", "none"), a.containerOf("container:"))(cmd, args, prefix)
}

// completeMount completes what comes before the colon of -v: volumes, or where it is a path files.
func (a *app) completeMount(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if strings.HasPrefix(prefix, "/") || strings.HasPrefix(prefix, ".") {
		return nil, cobra.ShellCompDirectiveNoSpace
	}
	names, directive := a.completeVolumes(cmd, nil, prefix)
	for i := range names {
		names[i] += ":"
	}
	return names, directive | cobra.ShellCompDirectiveNoSpace
}

// completeTarget completes the names of the stages of the Dockerfile that is to be built.
func completeTarget(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	file, _ := cmd.Flags().GetString("file")
	if file == "" {
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		file = filepath.Join(dir, "Dockerfile")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	f, err := dockerfile.Parse(file, data)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range f.Stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeSignal completes names of signals, with SIG before them if that was begun.
func completeSignal(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for n := unix.Signal(1); n < 32; n++ {
		name := unix.SignalName(n)
		if !strings.HasPrefix(strings.ToUpper(prefix), "S") || strings.HasPrefix(strings.ToUpper(prefix), "ST") {
			name = strings.TrimPrefix(name, "SIG")
		}
		names = append(names, name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func completeCapability(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, err := sandbox.AllCapabilities()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	words := []string{"ALL"}
	for _, n := range names {
		words = append(words, strings.TrimPrefix(n, "CAP_"))
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
