package graph

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Fetch is a root that holds what is elsewhere: a file from a URL, or the tree
// of a git commit. It has no Parent. Exactly one of its fields is set.
type Fetch struct {
	HTTP *HTTP
	Git  *Git
}

// HTTP is a file to be had from a URL.
type HTTP struct {
	URL      string        // http or https, perhaps with a password
	Name     string        // of the file in the root
	Checksum digest.Digest // what its content must have, or empty
}

// Git is the tree of a commit.
type Git struct {
	Remote       string // what git itself calls a URL
	Ref          string // branch, tag, other ref or commit; empty: the default branch
	Subdir       string // below the top, "" for all of it
	Checksum     string // the beginning of the commit's or tag's ID, or empty
	KeepDir      bool   // keep .git
	NoSubmodules bool
	CommitTime   bool // files are as old as the commit; else as new as the checkout
	// ByCommit: Checksum is the commit, whatever the remote says Ref is.
	ByCommit bool
	// ByUser: the user named it, not a Dockerfile. So it may be on this machine, and
	// his ssh keys may be used.
	ByUser bool
}

func (*Fetch) op() {}

// String is where it comes from, without passwords.
func (op *Fetch) String() string {
	if op.Git == nil {
		return Redact(op.HTTP.URL)
	}
	s := Redact(op.Git.Remote)
	if op.Git.Ref != "" || op.Git.Subdir != "" {
		s += "#" + op.Git.Ref
	}
	if op.Git.Subdir != "" {
		s += ":" + op.Git.Subdir
	}
	return s
}

// name is what ADD copies out of the root.
func (op *Fetch) name() string {
	if op.HTTP != nil {
		return op.HTTP.Name
	}
	return "."
}

func (op *Fetch) fields() []Field {
	if h := op.HTTP; h != nil {
		return []Field{{"op", "http"}, {"url", h.URL}, {"name", h.Name}, {"checksum", h.Checksum.String()}}
	}
	g := op.Git
	return []Field{
		{"op", "git"}, {"remote", g.Remote}, {"ref", g.Ref}, {"subdir", g.Subdir}, {"checksum", g.Checksum},
		{"keep-git-dir", strconv.FormatBool(g.KeepDir)}, {"submodules", strconv.FormatBool(!g.NoSubmodules)},
		{"commit-time", strconv.FormatBool(g.CommitTime)}, {"by-commit", strconv.FormatBool(g.ByCommit)},
		{"by-user", strconv.FormatBool(g.ByUser)},
	}
}

// Redact hides the password of a URL, for messages.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	if _, ok := u.User.Password(); !ok && u.Scheme != "http" && u.Scheme != "https" {
		return raw // the user name of ssh
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}

// unnamed is the file of a URL that ends in no name, as BuildKit has it.
const unnamed = "__unnamed__"

// ParseHTTP makes a source of an http or https URL.
func ParseHTTP(raw string) (*HTTP, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	if u.Host == "" {
		return nil, fmt.Errorf("%s: the URL names no host", Redact(raw))
	}
	u.Scheme, u.Fragment = strings.ToLower(u.Scheme), ""
	name := path.Base(u.Path)
	if name == "." || name == "/" || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
		name = unnamed
	}
	return &HTTP{URL: u.String(), Name: name}, nil
}

// IsHTTP tells whether src is a URL of http or https that is no git repository.
func IsHTTP(src string) bool { return remote(src) == "URL" }

// IsGit tells whether src names a git repository as a Dockerfile may.
func IsGit(src string) bool { return remote(src) == "git ref" }

// ParseGit makes a source of what IsGit: a URL with `#ref:subdir` or a query.
func ParseGit(raw string) (*Git, error) {
	g := &Git{}
	base, fragment, _ := strings.Cut(raw, "#")
	base, rawQuery, _ := strings.Cut(base, "?")
	if scheme, rest, ok := strings.Cut(base, "://"); ok {
		base = strings.ToLower(scheme) + "://" + rest
		u, err := url.Parse(base)
		if err != nil {
			return nil, err
		}
		if u.Host == "" && u.Scheme != "file" || strings.HasPrefix(u.Host, "-") || strings.HasPrefix(u.User.Username(), "-") {
			return nil, fmt.Errorf("%s: the URL names no host", Redact(base))
		}
	}
	if strings.HasPrefix(base, "-") {
		return nil, fmt.Errorf("%q is no git repository", base)
	}
	g.Remote = base
	fragment, err := url.PathUnescape(fragment)
	if err != nil {
		return nil, err
	}
	g.Ref, g.Subdir, _ = strings.Cut(fragment, ":")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, err
	}
	if err := g.query(query); err != nil {
		return nil, err
	}
	g.Subdir = strings.TrimPrefix(path.Join("/", g.Subdir), "/")
	return g, g.check()
}

// check refuses what git would take for an option, and checksums that are none.
func (g *Git) check() error {
	if strings.HasPrefix(g.Ref, "-") || strings.ContainsAny(g.Ref, "\x00\n") {
		return fmt.Errorf("invalid git ref %q", g.Ref)
	}
	if strings.Trim(g.Checksum, "0123456789abcdefABCDEF") != "" {
		return fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", g.Checksum)
	}
	g.Checksum = strings.ToLower(g.Checksum)
	if !g.ByCommit || IsCommit(g.Ref) {
		return nil
	}
	if !IsCommit(g.Checksum) {
		return errors.New("fetch-by-commit requires a full commit ID as checksum or ref")
	}
	return nil
}

// IsCommit tells whether s is an object ID in full: SHA-1 or SHA-256.
func IsCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// query reads the form `?ref=main&subdir=docs`.
func (g *Git) query(query url.Values) error {
	var tag, branch string
	for _, k := range slices.Sorted(maps.Keys(query)) {
		values := query[k]
		if len(values) > 1 {
			return fmt.Errorf("query %q has multiple values", k)
		}
		v := values[0]
		flag := k == "submodules" || k == "keep-git-dir" || k == "fetch-by-commit"
		if v == "" && !flag {
			return fmt.Errorf("query %q has no value", k)
		}
		on := v == ""
		if flag && !on {
			var err error
			if on, err = strconv.ParseBool(v); err != nil {
				return fmt.Errorf("invalid %s value: %q", k, v)
			}
		}
		var err error
		switch k {
		case "ref":
			err = agree("ref", &g.Ref, v)
		case "tag":
			tag = "refs/tags/" + strings.TrimPrefix(v, "refs/tags/")
		case "branch":
			branch = "refs/heads/" + strings.TrimPrefix(v, "refs/heads/")
		case "subdir":
			err = agree("subdir", &g.Subdir, v)
		case "checksum", "commit":
			err = agree("checksum", &g.Checksum, v)
		case "keep-git-dir":
			g.KeepDir = on
		case "submodules":
			g.NoSubmodules = !on
		case "fetch-by-commit":
			g.ByCommit = on
		case "mtime":
			if v != "checkout" && v != "commit" {
				err = fmt.Errorf(`invalid mtime value: %q (must be "checkout" or "commit")`, v)
			}
			g.CommitTime = v == "commit"
		default:
			err = fmt.Errorf("unexpected query %q", k)
		}
		if err != nil {
			return err
		}
	}
	if tag != "" && branch != "" {
		return errors.New("branch conflicts with tag")
	}
	if named := tag + branch; named != "" {
		return agree("ref", &g.Ref, named)
	}
	return nil
}

// agree sets what is said in two places, where it must be the same.
func agree(what string, field *string, value string) error {
	if *field != "" && *field != value {
		return fmt.Errorf("%s conflicts: %q vs %q", what, *field, value)
	}
	*field = value
	return nil
}

// remote tells what kind of remote source src is; empty for a path.
func remote(src string) string {
	scheme, rest, ok := strings.Cut(src, "://")
	if ok {
		switch strings.ToLower(scheme) {
		case "http", "https":
			rest, _, _ = strings.Cut(rest, "#")
			rest, _, _ = strings.Cut(rest, "?")
			if strings.HasSuffix(rest, ".git") {
				return "git ref"
			}
			return "URL"
		case "git", "ssh":
			return "git ref"
		}
		return ""
	}
	// user@host:path, as ssh writes it
	user, rest, ok := strings.Cut(src, "@")
	host, _, colon := strings.Cut(rest, ":")
	if ok && colon && user != "" && host != "" && strings.Trim(user, nameBytes+"-") == "" && strings.Trim(host, nameBytes+"-.") == "" {
		return "git ref"
	}
	return ""
}

// fetch is the step that gets op, one for all its uses.
func (p *planner) fetch(s *stage, pos string, op *Fetch) *Step {
	var key strings.Builder
	for _, f := range op.fields() {
		key.WriteString(strconv.Quote(f.Value))
	}
	if step := p.fetches[key.String()]; step != nil {
		return step
	}
	step := &Step{ID: len(p.steps), Stage: s.id(), Pos: pos, Name: "[internal] fetch " + op.String(), Op: op}
	p.steps = append(p.steps, step)
	if p.fetches == nil {
		p.fetches = map[string]*Step{}
	}
	p.fetches[key.String()] = step
	return step
}
