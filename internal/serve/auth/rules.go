package auth

import (
	"fmt"
	"slices"

	"nacre/internal/glob"
	"nacre/internal/serve/config"
)

// rules say what callers may do. A caller may do what any rule allows; no rule takes
// anything away, so their order does not matter.
type rules struct {
	all    []rule
	groups map[string][]string
}

type rule struct {
	config.Rule
	verbs Verbs
}

// newRules reads the rules. Where there are none, everybody known may do everything.
func newRules(c config.Auth) (rules, error) {
	rs := rules{groups: c.Groups}
	for i, r := range c.Rules {
		var verbs Verbs
		for _, name := range r.Allow {
			v, err := ParseVerb(name)
			if err != nil {
				return rules{}, fmt.Errorf("auth.rules[%d]: %w", i, err)
			}
			verbs |= v
		}
		rs.all = append(rs.all, rule{r, verbs})
	}
	if len(c.Rules) == 0 {
		rs.all = []rule{{config.Rule{Repositories: []string{"**"}, Users: []string{"*"}}, Pull | Push | Delete | List}}
	}
	return rs, nil
}

// allow is what the rules let c do to repo.
func (rs rules) allow(c Caller, repo string) Verbs {
	var v Verbs
	for _, r := range rs.all {
		if v&r.verbs != r.verbs && rs.isFor(r, c) && glob.Any(r.Repositories, repo) {
			v |= r.verbs
		}
	}
	return v
}

func (rs rules) isFor(r rule, c Caller) bool {
	if r.Anonymous {
		return true // what nobody may do, everybody may
	}
	if c.Anonymous() {
		return false
	}
	if slices.Contains(r.Users, c.Name) || slices.Contains(r.Users, "*") {
		return true
	}
	return slices.ContainsFunc(r.Groups, func(g string) bool {
		return slices.Contains(c.Groups, g) || slices.Contains(rs.groups[g], c.Name)
	})
}

// anonymous tells whether there is anything that nobody known may do.
func (rs rules) anonymous() bool {
	return slices.ContainsFunc(rs.all, func(r rule) bool { return r.Anonymous })
}
