package graph

import (
	"fmt"
	"strconv"
	"strings"
)

// checkMode tells whether s is a --chmod: octal up to 07777, or symbolic as
// chmod(1) takes it: u=rwX,go-w.
func checkMode(s string) error {
	if strings.Trim(s, "0123456789") == "" {
		if n, err := strconv.ParseUint(s, 8, 32); err != nil || n > 0o7777 {
			return fmt.Errorf("invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777", s)
		}
		return nil
	}
	for clause := range strings.SplitSeq(s, ",") {
		actions := strings.TrimLeft(clause, "ugoa")
		if actions == "" || !strings.ContainsRune("+-=", rune(actions[0])) || strings.Trim(actions, "+-=rwxXstugo") != "" {
			return fmt.Errorf("invalid chmod parameter: '%s'. %q is not like u+rwx", s, clause)
		}
	}
	return nil
}

// checkOwner tells whether s is a --chown: user[:group]. Names cannot be looked
// up where there is no root to look in.
func checkOwner(s string, names bool) error {
	user, group, _ := strings.Cut(s, ":")
	if strings.Contains(group, ":") {
		return fmt.Errorf("--chown=%s: it is user[:group]", s)
	}
	if !names && !(numeric(user) && numeric(group)) {
		return fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", s)
	}
	return nil
}

// numeric tells whether s needs no look-up. Root is 0 in every image.
func numeric(s string) bool { return s == "root" || strings.Trim(s, "0123456789") == "" }
