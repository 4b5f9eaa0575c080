// Package isolation finds out how programs can be kept apart from the machine here, and
// makes the best of it: root mounts what it likes; an ordinary user gets a user namespace,
// with the subordinate ids of /etc/subuid or with the one id there is; root without the right to mount, as
// in most containers, runs what a build runs by chroot; and where nothing is to be had, what runs no program still works.
//
// A command that needs a user namespace enters it as a whole, before it does anything
// else, and stays the process it was: same number, same parent, same terminal (Enter). All it
// then starts is in the namespace, too. What is on disk stays the user's: the user is root inside.
package isolation

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is one of the ways, from the best on.
type Kind string

const (
	Auto   Kind = "auto"   // the best that works here; never the Kind of a Choice
	Root   Kind = "root"   // root, or what is root in a container with the same rights: nothing to enter
	Userns Kind = "userns" // a user namespace with the subordinate ids of the user
	Single Kind = "single" // a user namespace with one id; other owners are recorded
	Chroot Kind = "chroot" // root without the right to mount
	None   Kind = "none"   // nothing can be run
)

// kinds are those that can be asked for.
var kinds = [...]Kind{Auto, Root, Userns, Single, Chroot, None}

// Parse reads a kind; an empty text is Auto, and so is docker's "default".
func Parse(s string) (Kind, error) {
	if s == "" || s == "default" {
		return Auto, nil
	}
	if slices.Contains(kinds[:], Kind(s)) {
		return Kind(s), nil
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	last := len(names) - 1
	return "", fmt.Errorf("isolation %q: want %s or %s", s, strings.Join(names[:last], ", "), names[last])
}

// Choice is the way that was chosen, and why.
type Choice struct {
	Kind Kind
	Why  string // what it is, in words
	// Refused are better ones that were tried, or asked about, and why not.
	Refused []Refusal
	// UIDs and GIDs are the subordinate ids that a namespace gets, beside the user's own. Only with Userns.
	UIDs, GIDs []Range
	// UID and GID are the user's own, outside of any namespace that was entered.
	UID, GID int
	// Beside is a process whose user namespace is to be entered, in place of a new one; 0: none.
	Beside int
	// Inside tells that the namespace has been entered.
	Inside bool
}

// Refusal is why a way cannot be gone, and what could be done about it.
type Refusal struct {
	Kind Kind
	Why  string
	Hint string `json:",omitempty"`
}

// RefusedError says that a way which was asked for, or any way at all, is not to be had.
type RefusedError struct{ Refusal }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("isolation %s is not possible here: %s", e.Kind, e.Why)
}

// Runs tells whether programs can be run this way.
func (c Choice) Runs() bool { return c.Kind != None }

// WhyNot is what was refused, in words.
func (c Choice) WhyNot() string {
	if len(c.Refused) == 0 {
		return "isolation " + string(c.Kind) + " was asked for"
	}
	var list []string
	for _, r := range c.Refused {
		list = append(list, string(r.Kind)+": "+r.Why)
	}
	return strings.Join(list, "; ")
}
