package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"nacre/internal/registry/store"
)

// usageRow is a line of system df, as docker's templates know it.
type usageRow struct{ Type, TotalCount, Active, Size, Reclaimable string }

func newUsageRow(kind string, t store.UsageTotal) usageRow {
	r := usageRow{
		Type: kind, TotalCount: strconv.Itoa(t.Total), Active: strconv.Itoa(t.Active),
		Size: humanSize(t.Size), Reclaimable: humanSize(t.Reclaimable),
	}
	if t.Size > 0 {
		r.Reclaimable += fmt.Sprintf(" (%d%%)", t.Reclaimable*100/t.Size)
	}
	return r
}

func printUsage(ctx context.Context, a *app, u store.Usage, format string, verbose bool) error {
	if verbose {
		return printUsageVerbose(ctx, a, u)
	}
	volumes, _, err := a.volumeUsage()
	if err != nil {
		return err
	}
	containers, _, err := a.containerUsage(ctx)
	if err != nil {
		return err
	}
	return render(a.stdout, format, []column{
		{"TYPE", "Type"}, {"TOTAL", "TotalCount"}, {"ACTIVE", "Active"}, {"SIZE", "Size"}, {"RECLAIMABLE", "Reclaimable"},
	}, []usageRow{
		newUsageRow("Images", u.Images), newUsageRow("Containers", containers), newUsageRow("Local Volumes", volumes), newUsageRow("Build Cache", u.Cache), newUsageRow("Cache Mounts", u.CacheDirs), newUsageRow("Contexts", u.Contexts),
		newUsageRow("Compressed", u.Forms), newUsageRow("Pushed", u.Pushed), newUsageRow("Temporary", u.Temp), newUsageRow("Unused", u.Unused),
	})
}

type imageUsageRow struct {
	Repository, Tag, ID, CreatedSince, Size, SharedSize, UniqueSize string
}

type cacheUsageRow struct{ ID, CreatedSince, LastUsedSince, Size, Shared string }

func printUsageVerbose(ctx context.Context, a *app, u store.Usage) error {
	now := time.Now()
	var images []imageUsageRow
	for _, i := range u.ImageList {
		for _, r := range imageRows([]store.Image{i.Image}, false, now) {
			images = append(images, imageUsageRow{r.Repository, r.Tag, r.ID, r.CreatedSince, r.Size, humanSize(i.Shared), humanSize(i.Unique)})
		}
	}
	fmt.Fprint(a.stdout, "Images space usage:\n\n")
	if err := render(a.stdout, "", []column{
		{"REPOSITORY", "Repository"}, {"TAG", "Tag"}, {"IMAGE ID", "ID"}, {"CREATED", "CreatedSince"},
		{"SIZE", "Size"}, {"SHARED SIZE", "SharedSize"}, {"UNIQUE SIZE", "UniqueSize"},
	}, images); err != nil {
		return err
	}
	if err := a.printContainerUsage(ctx); err != nil {
		return err
	}
	total, volumes, err := a.volumeUsage()
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\nLocal Volumes space usage: %s\n\n", humanSize(total.Size))
	if err := render(a.stdout, "", []column{{"VOLUME NAME", "Name"}, {"LINKS", "Links"}, {"SIZE", "Size"}}, volumes); err != nil {
		return err
	}
	var records []cacheUsageRow
	for _, c := range u.CacheList {
		records = append(records, cacheUsageRow{
			shortID(c.Layer), since(c.Created, now), since(c.Used, now), humanSize(c.Size), strconv.FormatBool(c.Shared),
		})
	}
	fmt.Fprintf(a.stdout, "\nBuild cache usage: %s\n\n", humanSize(u.Cache.Size))
	return render(a.stdout, "", []column{
		{"LAYER", "ID"}, {"CREATED", "CreatedSince"}, {"LAST USED", "LastUsedSince"}, {"SIZE", "Size"}, {"SHARED", "Shared"},
	}, records)
}

// printCheck reports what check found; what is wrong still makes it an error.
func printCheck(a *app, r store.CheckReport, repair bool) error {
	wrong := 0
	for _, p := range r.Problems {
		state := "wrong"
		if p.Repaired {
			state = "repaired"
		} else {
			wrong++
		}
		fmt.Fprintf(a.stdout, "%s: %s\n", state, p)
	}
	fmt.Fprintf(a.stdout, "checked %d images, %d names, %d layers, %d blobs, %d containers, %d cache records: %s hashed\n",
		r.Images, r.Names, r.Layers, r.Blobs, r.Containers, r.Records, humanSize(r.Bytes))
	if r.Leftovers > 0 && !repair {
		fmt.Fprintf(a.stdout, "%d harmless leftovers of processes that died\n", r.Leftovers)
	}
	if wrong == 0 {
		fmt.Fprintln(a.stdout, "the store is whole")
		return nil
	}
	err := fmt.Errorf("%d problems", wrong)
	if repair {
		return err
	}
	return &hintError{err, "nacre system check --repair drops or rebuilds what is wrong"}
}
