// Package auth says who a request is from and what they may do: passwords of an htpasswd
// file, fixed tokens, and signed tokens of the built-in or of somebody else's token
// endpoint, all measured by rules on patterns of repositories.
//
// A Gate is the whole of it. It knows HTTP's headers, and of a registry only
// names of repositories and verbs.
package auth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Verbs is a set of things to do to a repository.
type Verbs uint8

// The verbs. Pull is needed for everything that reads a repository, its tags and
// referrers too; List shows its name in the catalog, to those who may Pull.
const (
	Pull Verbs = 1 << iota
	Push
	Delete
	List
)

var verbNames = [...]string{"pull", "push", "delete", "list"}

// ParseVerb reads one verb, or a name for several: read, write, all, and * as the token
// specification has it.
func ParseVerb(s string) (Verbs, error) {
	if i := slices.Index(verbNames[:], s); i >= 0 {
		return 1 << i, nil
	}
	switch s {
	case "read":
		return Pull | List, nil
	case "write":
		return Pull | Push | List, nil
	case "all", "*":
		return Pull | Push | Delete | List, nil
	}
	return 0, fmt.Errorf("unknown verb %q", s)
}

// Names lists the verbs, as token scopes have them.
func (v Verbs) Names() []string {
	names := []string{}
	for i, name := range verbNames {
		if v&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func (v Verbs) String() string { return strings.Join(v.Names(), ",") }

// Caller is who a request is from.
type Caller struct {
	Name   string // empty: nobody known
	Groups []string
	via    via
	grants *grants // what a signed token is good for; nil: everything that the rules allow
}

// via is how a caller is known: names of users and of fixed tokens do not mix.
type via string

const (
	viaPassword via = "password"
	viaToken    via = "token"
	viaIssuer   via = "issuer" // somebody else's, who decided what is allowed
)

// Anonymous tells whether nobody knows who this is.
func (c Caller) Anonymous() bool { return c.Name == "" }

// Refusal is why a request goes no further.
type Refusal struct {
	Status    int           // 401, 403 or 429
	Code      string        // of the distribution spec
	Message   string        // for people; says nothing of what exists
	Challenge string        // WWW-Authenticate, with 401
	After     time.Duration // Retry-After, with 429
	Reason    string        // for the log alone
}

func (r *Refusal) Error() string { return r.Message }

func slowDown(after time.Duration) *Refusal {
	return &Refusal{
		Status: http.StatusTooManyRequests, Code: "TOOMANYREQUESTS",
		Message: "too many wrong credentials; wait before the next try", After: after, Reason: "paused after failures",
	}
}
