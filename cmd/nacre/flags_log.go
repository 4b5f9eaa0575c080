package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"nacre/internal/container"
	"nacre/internal/image"

	"github.com/docker/go-units"
)

func (f *containerFlags) applyLog(cfg *container.Config, _ image.Config) error {
	switch f.log {
	case "", "json-file", "local": // what local is to docker is what all logs are here
	case "none":
		cfg.Log.Driver = "none"
	default:
		return fmt.Errorf("--log-driver=%s: want json-file or none", f.log)
	}
	for _, o := range f.logOpts {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "max-size":
			n, err := units.RAMInBytes(value)
			if value == "-1" {
				n, err = -1, nil
			}
			if err != nil || n == 0 || n < -1 || n > 0 && n < 4096 {
				return fmt.Errorf("--log-opt %s: want a size such as 10m, 4k at least, or -1", o)
			}
			cfg.Log.MaxSize = n
		case "max-file":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 1000 {
				return fmt.Errorf("--log-opt %s: want a number, 1 or more", o)
			}
			cfg.Log.MaxFiles = n
		default:
			return fmt.Errorf("--log-opt %s: unknown; want max-size or max-file", key)
		}
	}
	return nil
}

// logOptions are the options of a log as --log-opt has them.
func logOptions(l container.LogConfig) map[string]string {
	o := map[string]string{}
	if l.MaxSize > 0 {
		o["max-size"] = strconv.FormatInt(l.MaxSize, 10)
	}
	if l.MaxFiles > 0 {
		o["max-file"] = strconv.Itoa(l.MaxFiles)
	}
	return o
}

// writeCidfile makes the file of --cidfile, which must not be there yet, and writes an ID to it.
func writeCidfile(name string) (write func(id string) error, err error) {
	if name == "" {
		return func(string) error { return nil }, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, syscall.EEXIST) {
		return nil, &hintError{fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", name), "another container may have written it"}
	}
	if err != nil {
		return nil, fmt.Errorf("--cidfile: %w", err)
	}
	return func(id string) error {
		defer f.Close()
		if id == "" {
			return os.Remove(name)
		}
		_, err := f.WriteString(id)
		return err
	}, nil
}
