package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"nacre/internal/registry/store"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func dfCommand(a *app) *cobra.Command {
	var verbose bool
	var format string
	cmd := &cobra.Command{
		Use:   "df [OPTIONS]",
		Short: "Show what uses the disk",
		Long: `Show what uses the disk, and how much of it could be had back. Sizes are those of the disk: what images share is
counted once, and with -v UNIQUE SIZE is what is won by removing that image alone.`,
		Example: "  nacre system df\n  nacre system df -v\n  nacre system df -v --format '{{range .Images}}{{.Repository}} {{.UniqueSize}}{{println}}{{end}}'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.store(cmd.Context())
			if err != nil {
				return err
			}
			u, err := s.Usage(cmd.Context(), verbose)
			if err != nil {
				return err
			}
			if verbose {
				return printUsageVerbose(cmd.Context(), a, u, format)
			}
			return printUsage(cmd.Context(), a, u, format)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show each image, container, volume and thing in the build cache")
	cmd.Flags().StringVar(&format, "format", "", `"table", "json" or a Go template`)
	return cmd
}

// usageRow is a line of system df, as docker's templates know it.
type usageRow struct{ Active, Reclaimable, Size, TotalCount, Type string }

func newUsageRow(kind string, t store.UsageTotal) usageRow {
	r := usageRow{
		Type: kind, TotalCount: strconv.Itoa(t.Total), Active: strconv.Itoa(t.Active),
		Size: fullSize(t.Size), Reclaimable: fullSize(t.Reclaimable),
	}
	if t.Size > 0 {
		r.Reclaimable += fmt.Sprintf(" (%d%%)", t.Reclaimable*100/t.Size)
	}
	return r
}

// fullSize has a digit more than humanSize, as docker has where it sums up.
func fullSize(n int64) string { return units.HumanSize(float64(n)) }

// printUsage shows docker's four kinds, and those of ours that there is something of.
func printUsage(ctx context.Context, a *app, u store.Usage, format string) error {
	volumes, _, err := a.volumeUsage()
	if err != nil {
		return err
	}
	containers, _, err := a.containerUsage(ctx)
	if err != nil {
		return err
	}
	rows := []usageRow{
		newUsageRow("Images", u.Images), newUsageRow("Containers", containers), newUsageRow("Local Volumes", volumes), newUsageRow("Build Cache", u.Cache),
	}
	for _, more := range []struct {
		kind  string
		total store.UsageTotal
	}{
		{"Cache Mounts", u.CacheDirs}, {"Contexts", u.Contexts}, {"Compressed", u.Forms}, {"Pushed", u.Pushed}, {"Temporary", u.Temp}, {"Unused", u.Unused},
	} {
		if more.total != (store.UsageTotal{}) {
			rows = append(rows, newUsageRow(more.kind, more.total))
		}
	}
	return render(a.stdout, format, []column{
		{"TYPE", "Type"}, {"TOTAL", "TotalCount"}, {"ACTIVE", "Active"}, {"SIZE", "Size"}, {"RECLAIMABLE", "Reclaimable"},
	}, rows)
}

// usageDetails are what system df -v shows, as docker's templates know it.
type usageDetails struct {
	Images     []imageRow
	Containers []psRow
	Volumes    []volumeRow
	BuildCache []cacheUsageRow

	cacheSize int64
}

// cacheUsageRow is a thing in the build cache. How often it was used is not counted.
type cacheUsageRow struct {
	CacheType, CreatedAt, CreatedSince, Description, ID, InUse string
	LastUsedAt, LastUsedSince, Parent, Shared, Size            string
}

func printUsageVerbose(ctx context.Context, a *app, u store.Usage, format string) error {
	d, err := a.usageDetails(ctx, u, format != "" && format != "table")
	if err != nil {
		return err
	}
	var b bytes.Buffer
	switch format {
	case "", "table":
		err = d.table(&b)
	case "json":
		err = writeJSON(&b, d, "")
	default:
		t, terr := parseTemplate(unescape(format))
		if terr != nil {
			return terr
		}
		if err = t.Execute(&b, d); err != nil {
			err = badTemplate(err, fieldsOf[usageDetails]())
		}
	}
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(b.Bytes())
	return err
}

// usageDetails looks at everything one by one. IDs are whole where they are not for a table.
func (a *app) usageDetails(ctx context.Context, u store.Usage, whole bool) (d usageDetails, err error) {
	now := time.Now()
	_, containers, err := a.containerUsage(ctx)
	if err != nil {
		return d, err
	}
	used := map[digest.Digest]int{}
	d = usageDetails{Images: []imageRow{}, Containers: []psRow{}, Volumes: []volumeRow{}, BuildCache: []cacheUsageRow{}}
	for _, c := range containers {
		used[c.Config.Target]++
		r := a.psRow(ctx, c, whole, false, now)
		r.Size = humanSize(c.Size())
		d.Containers = append(d.Containers, r)
	}
	style := rowStyle{noTrunc: whole, now: now, containers: used}
	for _, i := range u.ImageList {
		r := imageRows([]store.Image{i.Image}, style)[0] // as docker: each image once
		r.Size, r.SharedSize, r.UniqueSize = humanSize(i.Shared+i.Unique), humanSize(i.Shared), humanSize(i.Unique)
		d.Images = append(d.Images, r)
	}
	_, volumes, err := a.volumeUsage()
	if err != nil {
		return d, err
	}
	d.Volumes = append(d.Volumes, volumes...)
	cached, err := a.cacheRows(ctx, now)
	for _, c := range cached {
		if !c.Shared {
			d.cacheSize += c.item.Size
		}
		d.BuildCache = append(d.BuildCache, c.usage(whole, now))
	}
	return d, err
}

// usage is a row of system df -v.
func (r cacheRow) usage(whole bool, now time.Time) cacheUsageRow {
	u := cacheUsageRow{
		CacheType: r.Type, Description: r.Description, ID: r.ID, Size: r.Size, InUse: strconv.FormatBool(r.InUse), Shared: strconv.FormatBool(r.Shared),
		CreatedAt: r.item.Created.String(), CreatedSince: since(r.item.Created, now),
		LastUsedAt: r.item.Used.String(), LastUsedSince: since(r.item.Used, now), Parent: strings.Join(r.Parents, ", "),
	}
	if whole {
		u.ID, u.Parent = r.full, strings.Join(r.parents, ", ")
	}
	if r.InUse {
		u.ID += "*" // docker's mark
	}
	return u
}

// table writes docker's four tables.
func (d usageDetails) table(b *bytes.Buffer) error {
	b.WriteString("Images space usage:\n\n")
	if err := render(b, "", []column{
		{"REPOSITORY", "Repository"}, {"TAG", "Tag"}, {"IMAGE ID", "ID"}, {"CREATED", "CreatedSince"},
		{"SIZE", "Size"}, {"SHARED SIZE", "SharedSize"}, {"UNIQUE SIZE", "UniqueSize"}, {"CONTAINERS", "Containers"},
	}, d.Images); err != nil {
		return err
	}
	b.WriteString("\nContainers space usage:\n\n")
	if err := render(b, "", []column{
		{"CONTAINER ID", "ID"}, {"IMAGE", "Image"}, {"COMMAND", "Command"}, {"LOCAL VOLUMES", "LocalVolumes"},
		{"SIZE", "Size"}, {"CREATED", "RunningFor"}, {"STATUS", "Status"}, {"NAMES", "Names"},
	}, d.Containers); err != nil {
		return err
	}
	b.WriteString("\nLocal Volumes space usage:\n\n")
	if err := render(b, "", []column{{"VOLUME NAME", "Name"}, {"LINKS", "Links"}, {"SIZE", "Size"}}, d.Volumes); err != nil {
		return err
	}
	fmt.Fprintf(b, "\nBuild cache usage: %s\n\n", fullSize(d.cacheSize))
	return render(b, "", []column{
		{"CACHE ID", "ID"}, {"CACHE TYPE", "CacheType"}, {"SIZE", "Size"}, {"CREATED", "CreatedSince"},
		{"LAST USED", "LastUsedSince"}, {"SHARED", "Shared"},
	}, d.BuildCache)
}
