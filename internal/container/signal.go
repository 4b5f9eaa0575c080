package container

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSignal is the last real-time signal.
const maxSignal = 64

// ParseSignal reads a signal by name or number: SIGTERM, term, 15, RTMIN+3.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > maxSignal {
			return 0, fmt.Errorf("Invalid signal: %s", s) //lint:ignore ST1005 docker's words
		}
		return syscall.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	for base, first := range map[string]int{"SIGRTMIN": 34, "SIGRTMAX": 64} { // signal(7), of glibc
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		n := 0
		if rest != "" {
			var err error
			if n, err = strconv.Atoi(rest); err != nil {
				continue
			}
		}
		if n += first; n >= 34 && n <= maxSignal {
			return syscall.Signal(n), nil
		}
	}
	return 0, fmt.Errorf("Invalid signal: %s", s) //lint:ignore ST1005 docker's words
}

// stopSignal is what asks the container to end.
func (c *Config) stopSignal() syscall.Signal {
	if sig, err := ParseSignal(c.StopSignal); err == nil {
		return sig
	}
	return syscall.SIGTERM
}
