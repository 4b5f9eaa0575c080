package graph

import (
	"fmt"
	"strconv"
	"strings"
)

// checkSignal tells whether docker takes s as a STOPSIGNAL: a number, or a name
// with or without SIG.
func checkSignal(s string) error {
	if n, err := strconv.Atoi(s); err == nil {
		if n == 0 {
			return fmt.Errorf("invalid signal: %s", s)
		}
		return nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	switch name {
	case "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
		"POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
		"URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX":
		return nil
	}
	if n, ok := strings.CutPrefix(name, "RTMIN+"); ok && between(n, 1, 15) {
		return nil
	}
	if n, ok := strings.CutPrefix(name, "RTMAX-"); ok && between(n, 1, 14) {
		return nil
	}
	return fmt.Errorf("invalid signal: %s", s)
}

// between tells whether s is a plain number from lo to hi.
func between(s string, lo, hi int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && strconv.Itoa(n) == s && lo <= n && n <= hi
}
