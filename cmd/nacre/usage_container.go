package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"nacre/internal/container"
	"nacre/internal/registry/store"
)

// containerUsage is what containers take of the disk beside their images: all of those that do not run
// can be had back.
func (a *app) containerUsage(ctx context.Context) (t store.UsageTotal, list []*container.Container, err error) {
	cs, err := a.containers(ctx)
	if err != nil {
		return t, nil, err
	}
	if list, err = cs.List(ctx); err != nil {
		return t, nil, err
	}
	for _, c := range list {
		n := c.Size()
		t.Total++
		t.Size += n
		if c.State.Status.Alive() {
			t.Active++
		} else {
			t.Reclaimable += n
		}
	}
	return t, list, nil
}

type containerUsageRow struct{ ID, Image, Command, LocalVolumes, Size, RunningFor, Status, Names string }

// printContainerUsage is the part of system df -v about containers.
func (a *app) printContainerUsage(ctx context.Context) error {
	_, list, err := a.containerUsage(ctx)
	if err != nil {
		return err
	}
	rows := make([]containerUsageRow, len(list))
	for i, c := range list {
		r := a.psRow(ctx, c, false, false, time.Now())
		_, volumes := mountsText(c, false)
		rows[i] = containerUsageRow{r.ID, r.Image, r.Command, strconv.Itoa(volumes), humanSize(c.Size()), r.RunningFor, r.Status, r.Names}
	}
	fmt.Fprint(a.stdout, "\nContainers space usage:\n\n")
	return render(a.stdout, "", []column{
		{"CONTAINER ID", "ID"}, {"IMAGE", "Image"}, {"COMMAND", "Command"}, {"LOCAL VOLUMES", "LocalVolumes"},
		{"SIZE", "Size"}, {"CREATED", "RunningFor"}, {"STATUS", "Status"}, {"NAMES", "Names"},
	}, rows)
}
