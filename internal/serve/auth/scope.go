package auth

import (
	"slices"
	"strings"
)

// scope is what a signed token is good for: the element of its access claim (docker's token
// specification).
type scope struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// maxScopes bounds what one token is asked to be good for.
const maxScopes = 100

// parseScopes reads scopes as a token endpoint is asked for them: "repository:a/b:pull,push",
// several separated by spaces or given several times. What is not of this form is left
// out, as is usual: a token that is good for less is refused where it is used.
func parseScopes(all []string) []scope {
	var scopes []scope
	for _, s := range all {
		for one := range strings.FieldsSeq(s) {
			kind, rest, ok := strings.Cut(one, ":")
			i := strings.LastIndexByte(rest, ':')
			if !ok || i <= 0 || len(one) > 1024 || len(scopes) == maxScopes {
				continue
			}
			kind, _, _ = strings.Cut(kind, "(") // repository(plugin)
			var actions []string
			for a := range strings.SplitSeq(rest[i+1:], ",") {
				if a != "" && !slices.Contains(actions, a) {
					actions = append(actions, a)
				}
			}
			scopes = append(scopes, scope{Type: kind, Name: rest[:i], Actions: actions})
		}
	}
	return scopes
}

func (s scope) String() string { return s.Type + ":" + s.Name + ":" + strings.Join(s.Actions, ",") }

// verbs are those of the actions that are known.
func (s scope) verbs() Verbs {
	var v Verbs
	for _, a := range s.Actions {
		if one, err := ParseVerb(a); err == nil {
			v |= one
		}
	}
	return v
}

// grants are the scopes of one token.
type grants struct {
	repos   map[string]Verbs
	catalog bool
}

func newGrants(scopes []scope) *grants {
	g := &grants{repos: map[string]Verbs{}}
	for _, s := range scopes {
		switch {
		case s.Type == "repository":
			g.repos[s.Name] |= s.verbs()
		case s.Type == "registry" && s.Name == "catalog":
			g.catalog = g.catalog || slices.Contains(s.Actions, "*")
		}
	}
	return g
}

// repositoryScope is what a client has to ask for to do this.
func repositoryScope(repo string, v Verbs) scope {
	if v&Push != 0 {
		v |= Pull
	}
	return scope{Type: "repository", Name: repo, Actions: (v &^ List).Names()}
}

var catalogScope = scope{Type: "registry", Name: "catalog", Actions: []string{"*"}}
