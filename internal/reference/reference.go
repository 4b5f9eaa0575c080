// Package reference reads names of images. The grammar is that of
// github.com/distribution/reference, which docker and its registries go by, and the tests hold
// both side by side; that package makes regular expressions of it whenever a program starts,
// which takes longer than everything else of our start.
//
//	reference  = name [ ":" tag ] [ "@" digest ]
//	name       = [ domain "/" ] path
//	domain     = ( component *( "." component ) | "[" IPv6 "]" ) [ ":" port ]
//	path       = part *( "/" part )                 lower case, at most 255 bytes
//	part       = alnum *( ( "." | "_" | "__" | 1*"-" ) alnum )
//	tag        = at most 128 of letters, digits, "_", "." and "-", neither of the last two first
package reference

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	defaultDomain = "docker.io"
	legacyDomain  = "index.docker.io"
	official      = "library/"

	// maxPath is the longest path of a name, in bytes.
	maxPath = 255
	// maxTag is the longest tag, in bytes.
	maxTag = 128
)

// What is wrong with names, in docker's words.
var (
	ErrFormat    = errors.New("invalid reference format")
	ErrUppercase = errors.New("repository name must be lowercase")
	ErrLong      = fmt.Errorf("repository name must not be more than %d characters", maxPath)
)

// UppercaseError says that a repository is in upper case. It is ErrFormat and ErrUppercase.
type UppercaseError struct{ Path string }

// Error is in docker's words.
func (e *UppercaseError) Error() string {
	return fmt.Sprintf("%v: repository name (%s) must be lowercase", ErrFormat, e.Path)
}

// Unwrap returns both errors that it is.
func (e *UppercaseError) Unwrap() []error { return []error{ErrFormat, ErrUppercase} }

// Named is a name in its parts.
type Named struct {
	Domain string // "docker.io"; may be empty where the first part of the path holds a "." and a "_"
	Path   string // "library/nginx"
	Tag    string // or empty
	Digest digest.Digest
}

// Parse reads a name as people write it, and makes it whole as docker does: "nginx" is
// docker.io/library/nginx. Tag and Digest stay empty where the name has none.
func Parse(s string) (Named, error) {
	if len(s) == 64 && isIdentifier(s) {
		return Named{}, fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	domain, rest := split(s)
	if path, _, _ := strings.Cut(rest, ":"); strings.ToLower(path) != path {
		return Named{}, &UppercaseError{path}
	}
	full := domain + "/" + rest
	n, dig, ok := parse(full)
	if !ok {
		if _, _, ok := parse(strings.ToLower(full)); ok {
			return Named{}, ErrUppercase
		}
		return Named{}, ErrFormat
	}
	if len(n.Path) > maxPath {
		return Named{}, ErrLong
	}
	if dig == "" {
		return n, nil
	}
	var err error
	if n.Digest, err = digest.Parse(dig); err != nil {
		return Named{}, err
	}
	return n, nil
}

// ParseName reads a name in full, without tag and digest, and adds nothing to it. Domain is
// empty where the name has one part, or its first cannot be a domain.
func ParseName(s string) (Named, error) {
	n, ok := parseName(s)
	if !ok {
		return Named{}, ErrFormat
	}
	if len(n.Path) > maxPath {
		return Named{}, ErrLong
	}
	return n, nil
}

// split separates domain and path as people mean them. What is no domain is not checked here.
func split(s string) (domain, rest string) {
	first, after, nested := strings.Cut(s, "/")
	switch {
	case !nested:
		return defaultDomain, official + s
	case first == legacyDomain:
		domain, rest = defaultDomain, after
	case first == "localhost", strings.ContainsAny(first, ".:"), strings.ToLower(first) != first:
		domain, rest = first, after
	default:
		domain, rest = defaultDomain, s
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = official + rest
	}
	return domain, rest
}

// parse reads a reference that has a domain or what looks like one. The digest is not
// checked against what its algorithm wants.
func parse(s string) (n Named, dig string, ok bool) {
	s, dig, hasDigest := strings.Cut(s, "@")
	if hasDigest && !isDigest(dig) {
		return n, "", false
	}
	slash := strings.IndexByte(s, '/') // a ":" before it is a port's
	name, tag, hasTag := strings.Cut(s[slash+1:], ":")
	if hasTag && !isTag(tag) {
		return n, "", false
	}
	n, ok = parseName(s[:slash+1] + name)
	n.Tag = tag
	return n, dig, ok
}

// parseName reads a name without tag and digest.
func parseName(s string) (n Named, ok bool) {
	if domain, path, nested := strings.Cut(s, "/"); nested && isDomain(domain) {
		return Named{Domain: domain, Path: path}, isPath(path)
	}
	return Named{Path: s}, isPath(s)
}

// Name is the repository: "docker.io/library/nginx".
func (n Named) Name() string {
	if n.Domain == "" {
		return n.Path
	}
	return n.Domain + "/" + n.Path
}

// String is the whole name, as it is.
func (n Named) String() string { return n.join(n.Name()) }

// FamiliarName is the repository in the short form people know: "nginx".
func (n Named) FamiliarName() string {
	if n.Domain != defaultDomain {
		return n.Name()
	}
	if s, ok := strings.CutPrefix(n.Path, official); ok && !strings.Contains(s, "/") {
		return s
	}
	return n.Path
}

// Familiar is the whole name in its short form.
func (n Named) Familiar() string { return n.join(n.FamiliarName()) }

// NameOnly tells whether the name has neither tag nor digest.
func (n Named) NameOnly() bool { return n.Tag == "" && n.Digest == "" }

// Tagged is n with the tag "latest" where it has neither tag nor digest.
func (n Named) Tagged() Named {
	if n.NameOnly() {
		n.Tag = "latest"
	}
	return n
}

func (n Named) join(s string) string {
	if n.Tag != "" {
		s += ":" + n.Tag
	}
	if n.Digest != "" {
		s += "@" + n.Digest.String()
	}
	return s
}
