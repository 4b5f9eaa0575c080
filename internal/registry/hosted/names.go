package hosted

import (
	"fmt"
	"strings"

	"nacre/internal/registry"
	"nacre/internal/registry/store"
)

// In the URL of a registry a repository has no domain, in the store every one has. They are
// translated as people's short names are:
//
//	app            docker.io/library/app    and <self>/app
//	team/app       docker.io/team/app       and <self>/team/app
//	ghcr.io/x/y    ghcr.io/x/y              and <self>/ghcr.io/x/y
//
// Each repository has one name: "library/app" and "docker.io/library/app" would be "app"
// again, and rules about who may read app could be got around by them. They are refused; the
// server asks for the own name of what clients call library/app (OwnName).
// Of an image named in both ways, by one tag, the one named last counts. What is pushed gets the
// first name.
type names struct {
	self  string
	known bounded[string, store.Repo]
}

// repo returns the repository of the store. Errors: registry.ErrInvalid.
func (n *names) repo(name string) (store.Repo, error) {
	if r, ok := n.known.get(name); ok {
		return r, nil
	}
	full, err := Canonical(name)
	if err != nil {
		return store.Repo{}, err
	}
	if full != name {
		return store.Repo{}, fmt.Errorf("repository %q: %w: it is called %q", name, registry.ErrInvalid, full)
	}
	ref, err := registry.ParseRef(name)
	if err != nil {
		return store.Repo{}, err
	}
	r := store.Repo{Name: ref.Repo}
	if n.self != "" {
		r.Also = n.self + "/" + name
	}
	n.known.put(name, r)
	return r, nil
}

// Canonical returns the one name of a repository here: "app" for "library/app".
// Errors: registry.ErrInvalid.
func Canonical(name string) (string, error) {
	ref, err := registry.ParseRef(name)
	if err != nil || ref.Tag != "latest" || ref.Digest != "" {
		return "", fmt.Errorf("repository %q: %w", name, registry.ErrInvalid)
	}
	if bare := strings.TrimSuffix(ref.String(), ":latest"); bare != ref.Repo || strings.HasSuffix(name, ":latest") {
		return "", fmt.Errorf("repository %q: %w", name, registry.ErrInvalid)
	}
	return registry.Ref{Repo: ref.Repo}.FamiliarRepo(), nil
}

// OwnName is what the server asks for in place of a name that clients know from docker.io:
// "app" for "library/app". Others stay what they are.
func OwnName(name string) string {
	if rest, ok := strings.CutPrefix(name, "library/"); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return name
}

// name returns what a repository of the store is called here.
func (n *names) name(repo string) string {
	if n.self != "" {
		if short, ok := strings.CutPrefix(repo, n.self+"/"); ok {
			return short
		}
	}
	return registry.Ref{Repo: repo}.FamiliarRepo()
}
