package main

import (
	"errors"
	"fmt"
	"time"

	"nacre/internal/container"
	"nacre/internal/image"

	"github.com/spf13/pflag"
)

// healthFlags are those of health checks.
type healthFlags struct {
	cmd                                          string
	interval, timeout, startPeriod, startBetween time.Duration
	retries                                      int
	none                                         bool
	set                                          *pflag.FlagSet
}

func (f *healthFlags) register(fl *pflag.FlagSet) {
	f.set = fl
	fl.StringVar(&f.cmd, "health-cmd", "", "command that says by its exit code whether the container is well")
	fl.DurationVar(&f.interval, "health-interval", 0, "time between two of them (default 30s)")
	fl.DurationVar(&f.timeout, "health-timeout", 0, "time that one may take (default 30s)")
	fl.DurationVar(&f.startPeriod, "health-start-period", 0, "time in which failures do not count (default 0s)")
	fl.DurationVar(&f.startBetween, "health-start-interval", 0, "time between two of them in that time (default 5s)")
	fl.IntVar(&f.retries, "health-retries", 0, "failures in a row that make a container unhealthy (default 3)")
	fl.BoolVar(&f.none, "no-healthcheck", false, "do not run the image's HEALTHCHECK")
}

func (f *healthFlags) apply(cfg *container.Config, img image.Config) error {
	given := f.cmd != ""
	for _, name := range []string{"health-interval", "health-timeout", "health-start-period", "health-start-interval", "health-retries"} {
		given = given || f.set.Changed(name)
	}
	if f.none {
		if given {
			return errors.New("--no-healthcheck conflicts with --health-* options") // docker's words
		}
		return nil
	}
	for name, d := range map[string]time.Duration{"interval": f.interval, "timeout": f.timeout, "start-period": f.startPeriod, "start-interval": f.startBetween} {
		if d < 0 || d > 0 && d < time.Millisecond {
			return fmt.Errorf("--health-%s=%s: want 1ms or more", name, d)
		}
	}
	if f.retries < 0 {
		return fmt.Errorf("--health-retries=%d: want a number, 1 or more", f.retries)
	}
	h := container.Health{}
	if c := img.Config.Healthcheck; c != nil {
		h = container.Health{Test: c.Test, Interval: c.Interval, Timeout: c.Timeout, StartPeriod: c.StartPeriod, StartInterval: c.StartInterval, Retries: c.Retries}
	}
	h.Shell = img.Config.Shell
	if f.cmd != "" {
		h.Test = []string{"CMD-SHELL", f.cmd}
	}
	for _, v := range []struct {
		from time.Duration
		to   *time.Duration
	}{{f.interval, &h.Interval}, {f.timeout, &h.Timeout}, {f.startPeriod, &h.StartPeriod}, {f.startBetween, &h.StartInterval}} {
		if v.from != 0 {
			*v.to = v.from
		}
	}
	if f.retries != 0 {
		h.Retries = f.retries
	}
	if len(h.Test) > 0 && h.Test[0] != "NONE" {
		cfg.Health = &h
	}
	return nil
}
