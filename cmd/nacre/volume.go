package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"nacre/internal/volume"

	"github.com/spf13/cobra"
)

func volumeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "volume",
		Short:   "Look after volumes: directories that outlive containers",
		Example: "  nacre volume create data\n  nacre run --rm -v data:/srv/data busybox ls /srv/data\n  nacre volume rm data",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cmd.AddCommand(volumeCreateCommand(a), volumeListCommand(a), volumeInspectCommand(a), volumeRemoveCommand(a), volumePruneCommand(a))
	return cmd
}

// volumes are those of the store.
func (a *app) volumes(ctx context.Context) (*volume.Volumes, error) {
	s, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	return volume.Open(s), nil
}

func volumeCreateCommand(a *app) *cobra.Command {
	var o volume.CreateOptions
	var labels, options []string
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [VOLUME]",
		Short: "Make a volume",
		Long: `Make a volume, of a random name unless one is given, and print its name. One that is there
already is left as it is. With options it is not a directory of the store: type, device and o are
mounted in its place, as mount(8) takes them, in each container that uses it.`,
		Example: "  nacre volume create --label env=dev data\n  nacre volume create -o type=none -o o=bind -o device=/srv/data data\n" +
			"  nacre volume create -o type=tmpfs -o device=tmpfs -o o=size=64m,uid=1000 scratch",
		Args: maxArgs(1, "create takes one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && o.Name != "" {
				return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg") // docker's words
			}
			if len(args) > 0 {
				o.Name = args[0]
			}
			if o.Name != "" {
				if err := volume.CheckName(o.Name); err != nil {
					return fmt.Errorf("create %w", err)
				}
			}
			var err error
			if o.Labels, err = pairs("--label", labels); err != nil {
				return err
			}
			if o.Options, err = pairs("--opt", options); err != nil {
				return err
			}
			o.Anonymous = o.Name == ""
			v, err := a.volumes(cmd.Context())
			if err != nil {
				return err
			}
			vol, err := v.Create(cmd.Context(), o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, vol.Name)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.Name, "name", "", "name of the volume: give it alone")
	fl.MarkHidden("name")
	fl.StringVarP(&o.Driver, "driver", "d", "local", "local is the one there is")
	listVar(fl, &labels, "label", "", "KEY[=VALUE] kept with the volume")
	listVar(fl, &options, "opt", "o", "type=FILESYSTEM, device=WHAT or o=OPTIONS: mounted in place of a directory")
	return cmd
}

// pairs reads values KEY[=VALUE] of a flag; nil if there are none.
func pairs(flag string, values []string) (map[string]string, error) {
	var out map[string]string
	for _, s := range values {
		key, value, _ := strings.Cut(s, "=")
		if key == "" {
			return nil, fmt.Errorf("%s %q: want KEY=VALUE", flag, s)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out, nil
}

func volumeListCommand(a *app) *cobra.Command {
	var quiet bool
	var filters []string
	var format string
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Example: "  nacre volume ls\n  nacre volume ls -q --filter dangling=true\n  nacre volume ls --filter label=env=dev --format '{{.Name}} {{.Mountpoint}}'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := a.volumes(cmd.Context())
			if err != nil {
				return err
			}
			keep, err := volumeFilter(v, filters)
			if err != nil {
				return err
			}
			list, err := v.List()
			if err != nil {
				return err
			}
			var rows []volumeRow
			for _, vol := range list {
				if !keep(vol) {
					continue
				}
				if vol.Damaged != "" {
					a.warnf("volume %s: %s", vol.Name, vol.Damaged)
				}
				rows = append(rows, newVolumeRow(v, vol))
			}
			if quiet && format == "" {
				format = "{{.Name}}"
			}
			format, explain := a.listFormat(format, "volumesFormat", func(c userConfig) string { return c.VolumesFormat })
			return explain(render(a.stdout, format, []column{{"DRIVER", "Driver"}, {"VOLUME NAME", "Name"}}, rows))
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&quiet, "quiet", "q", false, "print names and nothing else")
	listVar(fl, &filters, "filter", "f", "dangling=BOOL, driver=DRIVER, label=KEY[=VALUE] or name=PART")
	fl.StringVar(&format, "format", "", `"table", "json", "table TEMPLATE" or a Go template`)
	return cmd
}

// volumeDetail is a volume as docker's inspect shows it.
type volumeDetail struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func volumeInspectCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:               "inspect [OPTIONS] VOLUME...",
		Short:             "Show all that is known of volumes, as JSON",
		Example:           "  nacre volume inspect data\n  nacre volume inspect --format '{{.Mountpoint}}' data",
		Args:              minArgs(1, "inspect needs a volume"),
		ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInspect(a, format, args, func(name string) (any, error) { return a.inspectVolume(cmd.Context(), name) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `"json" or a Go template`)
	return cmd
}

func (a *app) inspectVolume(ctx context.Context, name string) (any, error) {
	v, err := a.volumes(ctx)
	if err != nil {
		return nil, err
	}
	vol, err := v.Get(name)
	if err != nil {
		return nil, noVolume(name, err)
	}
	return volumeDetail{
		CreatedAt: vol.Created.Format(time.RFC3339), Driver: vol.Driver, Labels: vol.Labels,
		Mountpoint: v.Mountpoint(vol.Name), Name: vol.Name, Options: vol.Options, Scope: "local",
	}, nil
}

// noVolume is err, in docker's words where there is no such volume.
func noVolume(name string, err error) error {
	if errors.Is(err, volume.ErrAbsent) {
		return &hintError{&noVolumeError{name}, "nacre volume ls lists what there is"}
	}
	return err
}

// noVolumeError is volume.ErrAbsent.
type noVolumeError struct{ name string }

func (e *noVolumeError) Error() string { return "no such volume: " + e.name }
func (e *noVolumeError) Unwrap() error { return volume.ErrAbsent }

func volumeRemoveCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rm [OPTIONS] VOLUME...",
		Aliases:           []string{"remove"},
		Short:             "Remove volumes that no container uses, with all that is in them",
		Example:           "  nacre volume rm data\n  nacre volume rm -f data scratch",
		Args:              minArgs(1, "rm needs a volume"),
		ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := a.volumes(cmd.Context())
			if err != nil {
				return err
			}
			var errs several
			for _, name := range args {
				err := v.Remove(cmd.Context(), name)
				if force && errors.Is(err, volume.ErrAbsent) {
					err = nil
				}
				if used := (*volume.InUseError)(nil); errors.As(err, &used) {
					err = &hintError{err, usedHint(used)}
				}
				if err != nil {
					errs = append(errs, noVolume(name, err))
					continue
				}
				fmt.Fprintln(a.stdout, name)
			}
			return errs.orNil()
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not mind volumes that are not there")
	return cmd
}

// usedHint says how to be rid of what uses a volume.
func usedHint(e *volume.InUseError) string {
	if len(e.Users) == 0 {
		return "a container is being made with it"
	}
	var ids []string
	for _, id := range e.Users {
		ids = append(ids, id[:min(12, len(id))])
	}
	return "stop and remove what uses it: nacre rm -f " + strings.Join(ids, " ")
}

// completeVolumes completes names of volumes.
func (a *app) completeVolumes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if _, err := os.Stat(a.rootFolder()); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	v, err := a.volumes(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, _ := v.List()
	var names []string
	for _, vol := range list {
		if !slices.Contains(args, vol.Name) {
			names = append(names, vol.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
