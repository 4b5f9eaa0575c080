package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"nacre/internal/container"

	"github.com/spf13/cobra"
)

type logsFlags struct {
	follow, timestamps, details bool
	tail, since, until          string
}

func logsCommand(a *app) *cobra.Command {
	var f logsFlags
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] CONTAINER",
		Short: "Show what a container has written",
		Example: `  nacre logs -f --tail 20 web
  nacre logs --since 10m -t web`,
		Args:              exactArgs(1, "logs needs a container"),
		ValidArgsFunction: one(a.completeContainers(nil)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLogs(cmd.Context(), a, f, args[0])
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.follow, "follow", "f", false, "go on with what it writes, until it ends")
	fl.BoolVarP(&f.timestamps, "timestamps", "t", false, "show when each line was written")
	fl.BoolVar(&f.details, "details", false, "show before each line what --log-opt labels, env and tag say of the container")
	fl.StringVarP(&f.tail, "tail", "n", "all", "how many of the last lines to show")
	fl.StringVar(&f.since, "since", "", "only what was written since: a time such as 2006-01-02T15:04:05, or 10m ago")
	fl.StringVar(&f.until, "until", "", "only what was written before")
	return cmd
}

func runLogs(ctx context.Context, a *app, f logsFlags, name string) error {
	o := container.LogOptions{Follow: f.follow, Tail: -1}
	if f.tail != "all" && f.tail != "" {
		n, err := strconv.Atoi(f.tail)
		if err != nil {
			return fmt.Errorf("--tail=%s: want a number, or all", f.tail)
		}
		o.Tail = n
	}
	var err error
	if o.Since, err = logTime(f.since); err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	if o.Until, err = logTime(f.until); err != nil {
		return fmt.Errorf("--until: %w", err)
	}
	c, err := a.container(ctx, name)
	if err != nil {
		return err
	}
	prefix := ""
	if f.details {
		if prefix, err = logDetails(c); err != nil {
			return err
		}
		prefix += " "
	}
	begin := true
	err = c.Logs(ctx, o, func(l container.LogLine) error {
		w := io.Writer(a.stdout)
		if l.Stream == "stderr" && !c.Config.TTY {
			w = a.stderr
		}
		data := l.Data
		if begin && (f.timestamps || f.details) {
			head := prefix
			if f.timestamps {
				head = l.Time.UTC().Format("2006-01-02T15:04:05.000000000Z") + " " + prefix
			}
			data = append([]byte(head), data...)
		}
		begin = len(l.Data) > 0 && l.Data[len(l.Data)-1] == '\n'
		_, err := w.Write(data)
		return err
	})
	if c.Reload() == nil && c.State.LogError != "" {
		a.warnf("the log of %s is not whole: %s", c.Name, c.State.LogError)
	}
	return err
}

// logTime reads a time of logs; empty is none.
func logTime(s string) (time.Time, error) {
	if s == "" || s == "0" { // the beginning of time, to docker
		return time.Time{}, nil
	}
	if sec, frac, ok := strings.Cut(s, "."); ok && !strings.ContainsAny(s, "-:TZhms") {
		n, err := strconv.ParseInt(sec, 10, 64)
		nano, err2 := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
		if err == nil && err2 == nil {
			return time.Unix(n, nano), nil
		}
	}
	t, err := parseUntil(s, time.Now())
	if err != nil {
		return t, fmt.Errorf("%q: want a duration such as 10m, or a time such as 2006-01-02T15:04:05", s)
	}
	return t, nil
}
