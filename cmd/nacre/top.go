package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"nacre/internal/container"

	"github.com/spf13/cobra"
)

func topCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top CONTAINER [PS OPTIONS]",
		Short: "List the processes of a running container",
		Long: `List the processes of a running container, with the process ids that they have on this machine. Options are
those of ps(1), which must be there for them, and must show the process id.`,
		Example:           "  nacre top web\n  nacre top web -o pid,rss,args",
		Args:              minArgs(1, "top needs a container"),
		ValidArgsFunction: one(a.completeContainers(running)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTop(cmd.Context(), a, args[0], args[1:])
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func runTop(ctx context.Context, a *app, name string, options []string) error {
	c, err := a.container(ctx, name)
	if err != nil {
		return err
	}
	pids, err := c.Processes(ctx)
	if err != nil {
		return err
	}
	if len(options) > 0 {
		return a.topByPs(ctx, pids, options)
	}
	w := topTable(a.stdout)
	fmt.Fprintln(w, "UID\tPID\tPPID\tC\tSTIME\tTTY\tTIME\tCMD")
	for _, pid := range pids {
		if p, err := container.ReadProc(pid); err == nil { // else it has ended
			fmt.Fprintln(w, topLine(p, bootTime(), time.Now()))
		}
	}
	return w.Flush()
}

// topTable writes columns as wide as docker has them.
func topTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 20, 1, 3, ' ', 0) }

// topLine is a process as ps -ef shows it.
func topLine(p container.Proc, boot, now time.Time) string {
	owner := strconv.Itoa(p.UID)
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	started := boot.Add(p.Start)
	share := 0
	if ran := now.Sub(started); ran > 0 {
		share = int((p.User + p.Sys) * 100 / ran)
	}
	stime := started.Format("15:04")
	if now.Sub(started) > 24*time.Hour {
		stime = started.Format("Jan02")
	}
	used := p.User + p.Sys
	command := strings.Join(p.Args, " ")
	if command == "" {
		command = "[" + p.Name + "]"
	}
	return fmt.Sprintf("%s\t%d\t%d\t%d\t%s\t%s\t%02d:%02d:%02d\t%s", owner, p.Pid, p.Parent, share, stime, ttyName(p.TTY),
		int(used.Hours()), int(used.Minutes())%60, int(used.Seconds())%60, printable(command))
}

// ttyName names a terminal as ps does: pts/0.
func ttyName(dev int) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	if dev == 0 || major < 136 || major > 143 {
		return "?"
	}
	return "pts/" + strconv.Itoa((major-136)<<8+minor)
}

// bootTime is when the machine started.
func bootTime() time.Time {
	data, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "btime "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return time.Unix(n, 0)
		}
	}
	return time.Time{}
}

// topByPs has ps list processes, and keeps those of the container.
func (a *app) topByPs(ctx context.Context, pids []int, options []string) error {
	ps, err := exec.LookPath("ps")
	if err != nil {
		return &hintError{errors.New("options are those of ps, which is not installed here"), "without options top needs no ps"}
	}
	cmd := exec.CommandContext(ctx, ps, options...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("ps: %s", strings.TrimSpace(errs.String()+" "+err.Error()))
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return errors.New("Couldn't find PID field in ps output") //lint:ignore ST1005 docker's words
	}
	titles := strings.Fields(lines[0])
	w := topTable(a.stdout)
	row := func(f []string) { fmt.Fprintln(w, printable(strings.Join(f, "\t"))) }
	row(titles)
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		if column >= len(f) {
			continue
		}
		if pid, err := strconv.Atoi(f[column]); err == nil && slices.Contains(pids, pid) {
			if len(f) > len(titles) { // the last column may have spaces in it
				f = append(f[:len(titles)-1:len(titles)-1], strings.Join(f[len(titles)-1:], " "))
			}
			row(f)
		}
	}
	return w.Flush()
}
