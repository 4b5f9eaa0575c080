package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"nacre/internal/container"
	"nacre/internal/network"
	"nacre/internal/volume"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

type psFlags struct {
	all, quiet, latest, size, noTrunc bool
	last                              int
	filters                           []string
	format                            string
}

func psCommand(a *app) *cobra.Command {
	cmd := containerListCommand(a)
	cmd.Use, cmd.Aliases = "ps [OPTIONS]", nil
	return cmd
}

func containerListCommand(a *app) *cobra.Command {
	var f psFlags
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"ps", "list"},
		Short:   "List containers: those that run, or with -a all",
		Example: `  nacre ps -a
  nacre ps -q --filter label=app=web
  nacre ps --format '{{.Names}}: {{.Status}}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return runPs(cmd.Context(), a, f) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "also those that do not run")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print IDs and nothing else")
	fl.BoolVarP(&f.latest, "latest", "l", false, "the container made last, whether or not it runs")
	fl.IntVarP(&f.last, "last", "n", -1, "as many of those made last")
	fl.BoolVarP(&f.size, "size", "s", false, "show what they take of the disk")
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten anything")
	listVar(fl, &f.filters, "filter", "f", "id, name, status, label, ancestor, exited, before, since, health, volume, network, publish, expose or is-task, =VALUE")
	fl.StringVar(&f.format, "format", "", `"table", "json", "table TEMPLATE" or a Go template`)
	fl.StringVar(&a.logLevel, "log-level", "info", "what to say besides results: error, warn, info or debug") // -l is another here
	return cmd
}

// psRow is a container as docker's templates know it.
type psRow struct {
	Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks string
	Platform, Ports, RunningFor, Size, State, Status                             string
	labels                                                                       map[string]string
}

// Label is the value of one label.
func (r psRow) Label(name string) string { return r.labels[name] }

func runPs(ctx context.Context, a *app, f psFlags) error {
	cs, err := a.containers(ctx)
	if err != nil {
		return err
	}
	list, err := cs.List(ctx)
	if err != nil {
		return err
	}
	keep, wide, err := a.psFilter(ctx, list, f.filters)
	if err != nil {
		return err
	}
	if f.latest {
		f.last = 1
	}
	all := f.all || f.last >= 0 || wide
	list = slices.DeleteFunc(list, func(c *container.Container) bool { return !all && !c.State.Status.Alive() || !keep(c) })
	if f.last >= 0 {
		list = list[:min(f.last, len(list))]
	}
	if f.quiet && f.format == "" {
		for _, c := range list {
			fmt.Fprintln(a.stdout, psID(c, f.noTrunc))
		}
		return nil
	}
	format, explain := a.listFormat(f.format, "psFormat", func(c userConfig) string { return c.PsFormat })
	size := f.size || strings.Contains(format, ".Size")
	rows := make([]psRow, len(list))
	for i, c := range list {
		rows[i] = a.psRow(ctx, c, f.noTrunc, size, time.Now())
	}
	columns := []column{
		{"CONTAINER ID", "ID"}, {"IMAGE", "Image"}, {"COMMAND", "Command"}, {"CREATED", "RunningFor"}, {"STATUS", "Status"}, {"PORTS", "Ports"}, {"NAMES", "Names"},
	}
	if f.size {
		columns = append(columns, column{"SIZE", "Size"})
	}
	return explain(render(a.stdout, format, columns, rows))
}

func psID(c *container.Container, noTrunc bool) string {
	if noTrunc {
		return c.ID
	}
	return c.ShortID()
}

func (a *app) psRow(ctx context.Context, c *container.Container, noTrunc, size bool, now time.Time) psRow {
	args := slices.Clone(c.Config.Args())
	for i := 1; i < len(args); i++ {
		if strings.Contains(args[i], " ") { // as docker shows them
			args[i] = "'" + args[i] + "'"
		}
	}
	command := strings.Join(args, " ")
	if r := []rune(command); !noTrunc && len(r) > 20 {
		command = string(r[:19]) + "…"
	}
	r := psRow{
		ID: psID(c, noTrunc), Names: c.Name, Image: a.psImage(ctx, c), Command: strconv.Quote(command),
		CreatedAt: c.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), RunningFor: since(c.Created, now),
		State: string(c.State.Status), Status: statusText(c, now), Platform: c.Config.Platform, Networks: networkName(c.Config.Network), Ports: portsText(c),
		labels: c.Config.Labels,
	}
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(c.Config.Labels)) {
		labels = append(labels, k+"="+c.Config.Labels[k])
	}
	r.Labels = strings.Join(labels, ",")
	mounts, volumes := mountsText(c, noTrunc)
	r.Mounts, r.LocalVolumes = mounts, strconv.Itoa(volumes)
	if size {
		r.Size = a.sizeText(ctx, c)
	}
	return r
}

// sizeText is what the container wrote, and that with its image.
func (a *app) sizeText(ctx context.Context, c *container.Container) string {
	own := c.Written()
	text := units.HumanSizeWithPrecision(float64(own), 3)
	if img, err := a.opened.Lookup(ctx, c.Config.ImageID.String()); err == nil {
		text += " (virtual " + units.HumanSizeWithPrecision(float64(own+img.Size), 3) + ")"
	}
	return text
}

// psImage is the name the container was made of, or the image's ID where the name means another now.
func (a *app) psImage(ctx context.Context, c *container.Container) string {
	if c.Config.Image == "" {
		return shortID(c.Config.Target)
	}
	img, err := a.opened.Lookup(ctx, c.Config.Image)
	if err == nil && img.Target.Digest == c.Config.Target {
		return c.Config.Image
	}
	return shortID(c.Config.ImageID)
}

// statusText is docker's STATUS, with the reason where a container did not end by itself.
func statusText(c *container.Container, now time.Time) string {
	st := c.State
	switch st.Status {
	case container.StatusRunning, container.StatusPaused:
		text := "Up " + units.HumanDuration(now.Sub(st.Started))
		switch {
		case st.Status == container.StatusPaused:
			text += " (Paused)"
		case st.Health == nil:
		case st.Health.Status == container.HealthStarting:
			text += " (health: starting)"
		default:
			text += " (" + st.Health.Status + ")"
		}
		return text
	case container.StatusRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", st.ExitCode, units.HumanDuration(now.Sub(st.Finished)))
	case container.StatusExited:
		text := fmt.Sprintf("Exited (%d) %s ago", st.ExitCode, units.HumanDuration(now.Sub(st.Finished)))
		switch {
		case st.OOMKilled:
			text += " (out of memory)"
		case st.Error != "" && !strings.ContainsAny(st.Error, "\n") && len(st.Error) <= 40:
			text += " (" + st.Error + ")"
		}
		return text
	case container.StatusDead:
		return "Dead"
	case container.StatusRemoving:
		return "Removal In Progress"
	}
	return "Created"
}

// networkName is docker's word for the network of a container: what looks for it in an output is docker's, too.
func networkName(o network.Options) string {
	if o.Mode == "" || o.Mode == network.ModePrivate {
		return bridgeNetwork
	}
	return o.Mode
}

const bridgeNetwork = "bridge"

// portsText is docker's PORTS: where they are published, and those that the image says it listens on, and are not.
func portsText(c *container.Container) string {
	if !c.State.Status.Alive() {
		return ""
	}
	var list []string
	published := map[string]bool{}
	for _, p := range c.State.Network.Ports {
		list, published[p.Key()] = append(list, p.String()), true
	}
	for _, e := range slices.Sorted(maps.Keys(exposedPorts(&c.Config))) {
		if !published[e] {
			list = append(list, e)
		}
	}
	return strings.Join(list, ", ")
}

// mountsText names what is mounted, as docker does: volumes by name, the rest by where it is from.
func mountsText(c *container.Container, noTrunc bool) (text string, volumes int) {
	var list []string
	for _, m := range c.Config.Mounts {
		if m.Type == volume.TypeVolume {
			volumes++
		}
		from := m.Source
		if r := []rune(from); !noTrunc && len(r) > 15 {
			from = string(r[:14]) + "…"
		}
		if from != "" {
			list = append(list, from)
		}
	}
	return strings.Join(list, ","), volumes
}
