package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"nacre/internal/build"
	"nacre/internal/edit"
	"nacre/internal/image"

	"github.com/spf13/cobra"
)

type mutateFlags struct {
	editFlags
	entrypoint, cmd                                     []string
	env, unsetEnv, labels, unsetLabels                  []string
	expose, unsetExpose, volumes, unsetVolumes, changes []string
	user, workdir, stopSignal, author, setPlatform      string
}

func imageMutateCommand(a *app) *cobra.Command {
	var f mutateFlags
	cmd := &cobra.Command{
		Use:   "mutate [OPTIONS] IMAGE",
		Short: "Change the config of an image",
		Long: `Make an image of another one with other settings: its layers stay what they are. Settings are changed by flags, or by
instructions of a Dockerfile that only set the config (-c). An entrypoint or command is a JSON array, or one word for each time the flag
is given; an empty one takes it away. A new entrypoint takes the command away.

` + placesHelp,
		Example: `  nacre image mutate -e MODE=production --label tier=web --user 1000 -t web:prod web:1
  nacre image mutate --entrypoint '["/bin/server", "-v"]' --replace docker://registry.example.com/team/web:1
  nacre image mutate -c 'HEALTHCHECK CMD curl -f http://localhost' -t web:checked web:1`,
		Args:              exactArgs(1, "mutate needs an image"),
		ValidArgsFunction: a.completeImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := f.mutation(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			return runMutate(cmd.Context(), a, f, m, args[0])
		},
	}
	fl := cmd.Flags()
	f.register(fl)
	f.registerPlatform(fl)
	listVar(fl, &f.entrypoint, "entrypoint", "", "entrypoint: a JSON array, or a word; may be repeated")
	listVar(fl, &f.cmd, "cmd", "", "command: a JSON array, or a word; may be repeated")
	listVar(fl, &f.env, "env", "e", "NAME=VALUE of a variable; may be repeated")
	listVar(fl, &f.unsetEnv, "unset-env", "", "NAME of a variable to take away; may be repeated")
	listVar(fl, &f.labels, "label", "", "KEY=VALUE of a label; may be repeated")
	listVar(fl, &f.unsetLabels, "unset-label", "", "KEY of a label to take away; may be repeated")
	listVar(fl, &f.expose, "exposed-ports", "", "PORT[/PROTOCOL] to expose; may be repeated")
	listVar(fl, &f.unsetExpose, "unset-exposed-ports", "", "PORT[/PROTOCOL] not to expose any more; may be repeated")
	listVar(fl, &f.volumes, "volume", "", "folder that is a volume; may be repeated")
	listVar(fl, &f.unsetVolumes, "unset-volume", "", "folder that is no volume any more; may be repeated")
	listVar(fl, &f.changes, "change", "c", "Dockerfile instruction to apply, such as 'CMD [\"sh\"]'; may be repeated")
	fl.StringVarP(&f.user, "user", "u", "", "user, or user:group")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working directory")
	fl.StringVar(&f.stopSignal, "stop-signal", "", "signal that stops a container")
	fl.StringVar(&f.author, "author", "", "author of the image")
	fl.StringVar(&f.setPlatform, "set-platform", "", "OS/ARCH[/VARIANT] that the image is for")
	return cmd
}

func runMutate(ctx context.Context, a *app, f mutateFlags, m edit.Mutation, name string) (err error) {
	from, err := parseImage("store", name)
	if err != nil {
		return err
	}
	ed, err := f.begin(ctx, a, from)
	if err != nil {
		return err
	}
	defer func() { err = ed.end(err) }()
	s, err := ed.open(ctx, from)
	if err != nil {
		return err
	}
	if m.Platform != nil && f.platform == "" && image.IsIndex(s.Desc.MediaType) {
		return &hintError{fmt.Errorf("--set-platform: %s is an index", name), "--platform says which of its images"}
	}
	return ed.apply(ctx, edit.New(s), edit.Mutate(m))
}

// mutation turns flags into what Mutate takes; changed tells which were given.
func (f mutateFlags) mutation(changed func(string) bool) (m edit.Mutation, err error) {
	if m.Created, err = f.time(); err != nil {
		return m, err
	}
	for _, w := range []struct {
		flag string
		list []string
		to   **[]string
	}{{"entrypoint", f.entrypoint, &m.Entrypoint}, {"cmd", f.cmd, &m.Cmd}} {
		if !changed(w.flag) {
			continue
		}
		list, err := commandWords(w.list)
		if err != nil {
			return m, fmt.Errorf("--%s: %w", w.flag, err)
		}
		*w.to = &list
	}
	for _, s := range []struct {
		flag  string
		value string
		to    **string
	}{{"user", f.user, &m.User}, {"workdir", f.workdir, &m.WorkingDir}, {"stop-signal", f.stopSignal, &m.StopSignal}, {"author", f.author, &m.Author}} {
		if changed(s.flag) {
			value := s.value
			*s.to = &value
		}
	}
	if m.WorkingDir != nil && *m.WorkingDir != "" && !strings.HasPrefix(*m.WorkingDir, "/") {
		return m, fmt.Errorf("--workdir %s: want an absolute path", f.workdir)
	}
	if f.setPlatform != "" {
		p, err := image.ParsePlatform(f.setPlatform)
		if err != nil {
			return m, fmt.Errorf("--set-platform: %w", err)
		}
		m.Platform = &p
	}
	if m.Labels, err = keyValues("--label", f.labels); err != nil {
		return m, err
	}
	for _, kv := range f.env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return m, fmt.Errorf("--env %q: want NAME=VALUE", kv)
		}
	}
	m.Env, m.UnsetEnv, m.UnsetLabels, m.Volumes, m.UnsetVolumes = f.env, f.unsetEnv, f.unsetLabels, f.volumes, f.unsetVolumes
	if m.Expose, err = portList("--exposed-ports", f.expose); err != nil {
		return m, err
	}
	if m.UnsetExpose, err = portList("--unset-exposed-ports", f.unsetExpose); err != nil {
		return m, err
	}
	if len(f.changes) > 0 {
		m.Said = f.changes
		m.Changed = func(ctx context.Context, cfg image.Config) (image.Config, error) {
			return build.Changed(ctx, cfg, f.changes)
		}
	}
	return m, nil
}

// commandWords reads a JSON array, or words of which each is one; an empty one alone is none at all.
func commandWords(list []string) ([]string, error) {
	if len(list) == 1 && list[0] == "" {
		return nil, nil
	}
	if len(list) == 1 && strings.HasPrefix(strings.TrimSpace(list[0]), "[") {
		var words []string
		if err := json.Unmarshal([]byte(list[0]), &words); err != nil {
			return nil, fmt.Errorf("%s: want a JSON array of words: %w", list[0], err)
		}
		return words, nil
	}
	return list, nil
}

// portList reads PORT[/PROTOCOL], of which tcp is the usual one.
func portList(flag string, list []string) (out []string, err error) {
	for _, s := range list {
		port, protocol, ok := strings.Cut(s, "/")
		if !ok {
			protocol = "tcp"
		}
		var n int
		if _, err := fmt.Sscanf(port, "%d", &n); err != nil || n < 1 || n > 65535 || fmt.Sprint(n) != port {
			return nil, fmt.Errorf("%s %s: want PORT[/PROTOCOL], such as 80 or 53/udp", flag, s)
		}
		if protocol = strings.ToLower(protocol); protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
			return nil, fmt.Errorf("%s %s: the protocol is tcp, udp or sctp", flag, s)
		}
		out = append(out, port+"/"+protocol)
	}
	return out, nil
}
