package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
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
		if err := setLogOption(&cfg.Log, key, value); err != nil {
			return fmt.Errorf("--log-opt %s: %w", o, err)
		}
		if cfg.Log.Options == nil {
			cfg.Log.Options = map[string]string{}
		}
		cfg.Log.Options[key] = value
	}
	return nil
}

func setLogOption(l *container.LogConfig, key, value string) error {
	switch key {
	case "max-size":
		n, err := units.RAMInBytes(value)
		if value == "-1" {
			n, err = -1, nil
		}
		if err != nil || n == 0 || n < -1 || n > 0 && n < 4096 {
			return errors.New("want a size such as 10m, 4k at least, or -1")
		}
		l.MaxSize = n
	case "max-file":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 1000 {
			return errors.New("want a number, 1 or more")
		}
		l.MaxFiles = n
	case "labels", "env":
	case "labels-regex", "env-regex":
		_, err := regexp.Compile(value)
		return err
	case "tag":
		_, err := logTag(&container.Container{ID: strings.Repeat("0", 64)}, value)
		return err
	case "mode": // a container waits for nobody who keeps its log in either
		if value != "blocking" && value != "non-blocking" {
			return errors.New("want blocking or non-blocking")
		}
	case "max-buffer-size": // of non-blocking
		_, err := units.RAMInBytes(value)
		return err
	case "compress":
		if yes, err := strconv.ParseBool(value); err != nil || yes {
			return errors.New("logs are not compressed here: want false")
		}
	default:
		return errors.New("unknown; want max-size, max-file, labels, labels-regex, env, env-regex, tag or mode")
	}
	return nil
}

// logOptions are the options of a log as --log-opt has them.
func logOptions(l container.LogConfig) map[string]string {
	if l.Options == nil {
		return map[string]string{}
	}
	return l.Options
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
