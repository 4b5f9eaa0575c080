package main

import (
	"fmt"
	"slices"
	"strings"

	"nacre/internal/container"
	"nacre/internal/registry/remote"

	"github.com/spf13/pflag"
)

// userConfig is what docker's config.json says of how commands behave. What it says of registries, remote reads.
type userConfig struct {
	path string

	ImagesFormat  string   `json:"imagesFormat"`
	PsFormat      string   `json:"psFormat"`
	StatsFormat   string   `json:"statsFormat"`
	VolumesFormat string   `json:"volumesFormat"`
	DetachKeys    string   `json:"detachKeys"`
	PruneFilters  []string `json:"pruneFilters"`
}

func readUserConfig() (c userConfig, err error) {
	file := remote.DefaultCredentials()
	c.path = file.Path
	err = file.Read(&c)
	return c, err
}

// listFormat is how a list is printed: as the flag says, or where that says nothing, as config.json does. explain adds to errors
// of printing it where the format is from.
func (a *app) listFormat(flag, key string, of func(userConfig) string) (format string, explain func(error) error) {
	same := func(err error) error { return err }
	if flag != "" {
		return flag, same
	}
	c, err := readUserConfig()
	if err != nil {
		a.warnf("%v", err)
		return "", same
	}
	return of(c), func(err error) error {
		if err == nil || of(c) == "" {
			return err
		}
		return fmt.Errorf("%s in %s: %w", key, c.path, err)
	}
}

// detachKeysVar declares --detach-keys; detachKeys reads it.
func detachKeysVar(fl *pflag.FlagSet, keys *string, stays string) {
	fl.StringVar(keys, "detach-keys", "", "keys that end the connection and leave the "+stays+" running (default: "+container.DefaultDetachKeys+", or detachKeys of docker's config.json)")
}

// detachKeys are those of the flag, else of config.json, else docker's.
func (a *app) detachKeys(flag string) ([]byte, error) {
	from := "--detach-keys"
	if flag == "" {
		c, err := readUserConfig()
		if err != nil {
			a.warnf("%v", err)
		}
		flag, from = c.DetachKeys, "detachKeys in "+c.path
	}
	if flag == "" {
		flag = container.DefaultDetachKeys
	}
	keys, err := container.ParseDetachKeys(flag)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return keys, nil
}

// pruneFilters adds to the filters of a prune command those of config.json. A label that a flag chooses is not spared by config.json,
// and the other way round. Without knowing what is to be spared nothing is pruned.
func pruneFilters(flags []string) ([]string, error) {
	c, err := readUserConfig()
	if err != nil {
		return nil, err
	}
	all := slices.Clone(flags)
	for _, f := range c.PruneFilters {
		key, value, _ := strings.Cut(f, "=")
		opposite := map[string]string{"label": "label!", "label!": "label"}[key]
		if opposite == "" || !slices.Contains(flags, opposite+"="+value) {
			all = append(all, f)
		}
	}
	return all, nil
}
