package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"nacre/internal/registry/store"
	"nacre/internal/volume"
)

// volumeRow is a volume as docker's templates know it.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string

	labels map[string]string
}

// Label is the value of a label, for templates.
func (r volumeRow) Label(key string) string { return r.labels[key] }

func newVolumeRow(v *volume.Volumes, vol volume.Volume) volumeRow {
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(vol.Labels)) {
		labels = append(labels, key+"="+vol.Labels[key])
	}
	return volumeRow{
		Availability: "N/A", Driver: vol.Driver, Group: "N/A", Labels: strings.Join(labels, ","), Links: "N/A",
		Mountpoint: v.Mountpoint(vol.Name), Name: vol.Name, Scope: "local", Size: "N/A", Status: "N/A", labels: vol.Labels,
	}
}

// volumeFilter reads --filter: of one key any value may fit, of several all; of labels all.
func volumeFilter(v *volume.Volumes, filters []string) (func(volume.Volume) bool, error) {
	var drivers, names, labels []string
	dangling := ""
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("--filter %q: want KEY=VALUE", f)
		}
		switch key {
		case "dangling":
			switch value {
			case "1", "true", "0", "false":
				dangling = value
			default:
				return nil, fmt.Errorf("--filter dangling=%s: want true or false", value)
			}
		case "driver":
			drivers = append(drivers, value)
		case "label":
			labels = append(labels, value)
		case "name":
			names = append(names, value)
		default:
			return nil, fmt.Errorf("--filter %s: unknown; want dangling, driver, label or name", key)
		}
	}
	return func(vol volume.Volume) bool {
		if dangling != "" && (dangling == "1" || dangling == "true") != (len(v.Users(vol.Name)) == 0) {
			return false
		}
		if len(drivers) > 0 && !slices.Contains(drivers, vol.Driver) {
			return false
		}
		if len(names) > 0 && !slices.ContainsFunc(names, func(part string) bool { return strings.Contains(vol.Name, part) }) {
			return false
		}
		return !slices.ContainsFunc(labels, func(l string) bool { return !hasLabel(vol, l) })
	}, nil
}

// hasLabel tells whether a volume has the label KEY, or KEY=VALUE.
func hasLabel(vol volume.Volume, label string) bool {
	key, want, valued := strings.Cut(label, "=")
	have, ok := vol.Labels[key]
	return ok && (!valued || have == want)
}

// volumeUsage is what volumes take of the disk, altogether and one by one.
func (a *app) volumeUsage() (store.UsageTotal, []volumeRow, error) {
	v := volume.Open(a.opened)
	var total store.UsageTotal
	list, err := v.List()
	if err != nil {
		return total, nil, err
	}
	var rows []volumeRow
	for _, vol := range list {
		users, size := len(v.Users(vol.Name)), v.Size(vol.Name)
		total.Total++
		total.Size += size
		if users > 0 {
			total.Active++
		} else {
			total.Reclaimable += size
		}
		row := newVolumeRow(v, vol)
		row.Links, row.Size = strconv.Itoa(users), humanSize(size)
		rows = append(rows, row)
	}
	return total, rows, nil
}

// checkVolumes is what system check finds of volumes.
func checkVolumes(s *store.Store, repair bool) ([]store.Problem, error) {
	found, err := volume.Open(s).Check(repair)
	var out []store.Problem
	for _, p := range found {
		out = append(out, store.Problem{
			Object: "volume " + p.Name, Text: p.Text, Repaired: p.Repaired,
			Fix: "its record is made again, without labels, if its files are there",
		})
	}
	return out, err
}
