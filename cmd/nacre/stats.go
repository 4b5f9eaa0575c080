package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"nacre/internal/container"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type statsFlags struct {
	all, noStream, noTrunc bool
	format                 string
}

func statsCommand(a *app) *cobra.Command {
	var f statsFlags
	cmd := &cobra.Command{
		Use:   "stats [OPTIONS] [CONTAINER...]",
		Short: "Show what containers use: processor, memory, network, disk",
		Long: `Show what containers use, every second: those named, or all that run. Without a cgroup of their own (a limit
gives them one) these are sums over their processes.`,
		Example: `  nacre stats
  nacre stats --no-stream --format '{{.Name}}: {{.MemUsage}}' web`,
		ValidArgsFunction: a.completeContainers(alive),
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runStats(cmd.Context(), a, f, args)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all", "a", false, "also those that do not run")
	fl.BoolVar(&f.noStream, "no-stream", false, "show it once")
	fl.BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten IDs")
	fl.StringVar(&f.format, "format", "", `"table", "json", "table TEMPLATE" or a Go template`)
	return cmd
}

// statsRow is what a container uses, as docker's templates know it.
type statsRow struct{ BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string }

// statsPeriod is how long processor time is measured for.
const statsPeriod = time.Second

func runStats(ctx context.Context, a *app, f statsFlags, names []string) error {
	format, explain := a.listFormat(f.format, "statsFormat", func(c userConfig) string { return c.StatsFormat })
	live := !f.noStream && term.IsTerminal(int(a.stdout.file.Fd())) && format != "json"
	before := map[string]measured{}
	told := false
	for {
		list, err := a.statsOf(ctx, f, names)
		if err != nil {
			return err
		}
		if len(before) == 0 { // a share takes two looks
			a.measure(ctx, list, before)
			if err := sleep(ctx, statsPeriod); err != nil {
				return nil
			}
		}
		rows, sums := a.statsRows(ctx, list, before, f.noTrunc)
		var out bytes.Buffer
		if err := render(&out, format, statsColumns, rows); err != nil {
			return explain(err)
		}
		if live {
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J")
		}
		if _, err := a.stdout.Write(out.Bytes()); err != nil {
			return err
		}
		if sums && !told && !live {
			told = true
			a.warnf("there is no cgroup to ask for some of them: sums over their processes, memory that they share counted for each")
		}
		if f.noStream || sleep(ctx, statsPeriod) != nil {
			return nil
		}
	}
}

// statsColumns are docker's.
var statsColumns = []column{
	{"CONTAINER ID", "ID"}, {"NAME", "Name"}, {"CPU %", "CPUPerc"}, {"MEM USAGE / LIMIT", "MemUsage"}, {"MEM %", "MemPerc"},
	{"NET I/O", "NetIO"}, {"BLOCK I/O", "BlockIO"}, {"PIDS", "PIDs"},
}

// sleep waits; its error says that nobody wants to any more.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// statsOf are the containers to be shown.
func (a *app) statsOf(ctx context.Context, f statsFlags, names []string) (list []*container.Container, err error) {
	if len(names) > 0 {
		for _, name := range names {
			c, err := a.container(ctx, name)
			if err != nil {
				return nil, err
			}
			list = append(list, c)
		}
		return list, nil
	}
	cs, err := a.containers(ctx)
	if err != nil {
		return nil, err
	}
	every, err := cs.List(ctx)
	for _, c := range every {
		if f.all || c.State.Status.Alive() {
			list = append(list, c)
		}
	}
	return list, err
}

// measured is what was used up to a moment.
type measured struct {
	container.Usage
	at time.Time
}

func (a *app) measure(ctx context.Context, list []*container.Container, into map[string]measured) {
	for _, c := range list {
		if u, err := c.Usage(ctx); err == nil {
			into[c.ID] = measured{u, time.Now()}
		}
	}
}

// statsRows measures again and compares. sums tells whether some have no cgroup.
func (a *app) statsRows(ctx context.Context, list []*container.Container, before map[string]measured, noTrunc bool) (rows []statsRow, sums bool) {
	for _, c := range list {
		r := statsRow{Container: c.ShortID(), ID: psID(c, noTrunc), Name: c.Name, CPUPerc: "--", MemPerc: "--", MemUsage: "-- / --", NetIO: "--", BlockIO: "--", PIDs: "--"}
		u, err := c.Usage(ctx)
		if err == nil {
			now := measured{u, time.Now()}
			last, ok := before[c.ID]
			before[c.ID] = now
			r.fill(u, last, now, ok)
			sums = sums || u.FromProcesses
		} else if !errors.Is(err, container.ErrNotRunning) {
			a.warnf("%s", about(err, c))
		}
		rows = append(rows, r)
	}
	return rows, sums
}

// fill is docker's way of writing it.
func (r *statsRow) fill(u container.Usage, last, now measured, share bool) {
	r.CPUPerc = "0.00%"
	if wall := now.at.Sub(last.at); share && wall > 0 {
		r.CPUPerc = fmt.Sprintf("%.2f%%", max(0, float64(now.CPU-last.CPU)*100/float64(wall)))
	}
	r.MemUsage = units.BytesSize(float64(u.Memory)) + " / " + units.BytesSize(float64(u.Limit))
	if u.Limit > 0 {
		r.MemPerc = fmt.Sprintf("%.2f%%", float64(u.Memory)*100/float64(u.Limit))
	}
	r.NetIO = humanSize(u.Received) + " / " + humanSize(u.Sent)
	r.BlockIO = humanSize(u.Read) + " / " + humanSize(u.Written)
	r.PIDs = strconv.Itoa(u.Pids)
}
