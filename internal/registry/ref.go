package registry

import (
	"fmt"
	"strings"

	"nacre/internal/reference"

	"github.com/opencontainers/go-digest"
)

// Ref names an image: a repository, and a tag or a digest or both (then the
// digest decides). It is normalized as docker does: "nginx" is
// docker.io/library/nginx:latest. The zero Ref names nothing.
type Ref struct {
	Repo   string // with domain: "docker.io/library/nginx"
	Tag    string
	Digest digest.Digest
}

// ParseRef reads a name as people write it. Without tag and digest the tag is
// "latest". Grammar: package reference.
func ParseRef(s string) (Ref, error) {
	n, err := reference.Parse(s)
	if err != nil {
		return Ref{}, fmt.Errorf("invalid reference %q: %w", s, err)
	}
	n = n.Tagged()
	return Ref{Repo: n.Name(), Tag: n.Tag, Digest: n.Digest}, nil
}

// String is the full form: "docker.io/library/nginx:latest".
func (r Ref) String() string { return r.join(r.Repo) }

// Familiar is the short form people know: "nginx:latest".
func (r Ref) Familiar() string { return r.join(r.FamiliarRepo()) }

// FamiliarRepo is the repository in its short form: "nginx". What would mean
// something else when read again stays as it is.
func (r Ref) FamiliarRepo() string {
	s, ok := strings.CutPrefix(r.Repo, "docker.io/")
	if !ok {
		return r.Repo
	}
	if official, ok := strings.CutPrefix(s, "library/"); ok && !strings.Contains(official, "/") {
		return official
	}
	if first, _, nested := strings.Cut(s, "/"); nested && (first == "localhost" || strings.ContainsAny(first, ".:")) {
		return r.Repo // the first part would be taken for a domain
	}
	return s
}

// IsZero tells whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

func (r Ref) join(repo string) string {
	if r.Tag != "" {
		repo += ":" + r.Tag
	}
	if r.Digest != "" {
		repo += "@" + r.Digest.String()
	}
	return repo
}
