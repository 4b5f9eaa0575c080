package mirror

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v4"
)

// MaxSize bounds a file in bytes.
const MaxSize = 4 << 20

// parser knows where in the file it is.
type parser struct{ name string }

// Error is something wrong in a file, with its place.
type Error struct {
	Pos  string // "list.yaml:7"
	Text string
	Hint string // what to do, or empty
}

func (e *Error) Error() string { return e.Pos + ": " + e.Text }

func (p parser) errorf(n *yaml.Node, format string, args ...any) error {
	return &Error{Pos: p.pos(n), Text: fmt.Sprintf(format, args...)}
}

func (p parser) pos(n *yaml.Node) string { return fmt.Sprintf("%s:%d", p.name, n.Line) }

// Parse reads a file: registries, each with the images to copy. It is the form of skopeo's sync, with
// "to", "platform", "referrers" and "last" added. name is for messages. Errors: *Error.
func Parse(name string, data []byte) (List, error) {
	p := parser{name}
	if len(data) > MaxSize {
		return List{}, &Error{Pos: name, Text: fmt.Sprintf("more than %d bytes", MaxSize)}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return List{}, &Error{Pos: name, Text: strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "yaml: ")}
	}
	if len(doc.Content) == 0 {
		return List{}, &Error{Pos: name, Text: "names no registry"}
	}
	var l List
	err := p.each(doc.Content[0], "a registry for each key", func(key, value *yaml.Node) error {
		s, err := p.source(key, value)
		l.Sources = append(l.Sources, s)
		return err
	})
	return l, err
}

// each goes over the pairs of a mapping.
func (p parser) each(n *yaml.Node, want string, f func(key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return p.errorf(n, "want %s", want)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || value.Kind == yaml.AliasNode {
			return p.errorf(key, "want %s, without anchors", want)
		}
		if seen[key.Value] {
			return p.errorf(key, "%s comes twice", key.Value)
		}
		seen[key.Value] = true
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (p parser) source(host, n *yaml.Node) (Source, error) {
	s := Source{Host: host.Value}
	if strings.Contains(s.Host, "/") {
		return s, p.errorf(host, "%q is not the name of a registry: repositories are named below images", s.Host)
	}
	if s.Host != "localhost" && !strings.ContainsAny(s.Host, ".:") {
		return s, p.errorf(host, "%q is not the name of a registry, such as registry.example.com", s.Host)
	}
	err := p.each(n, "what is to be copied: images, images-by-tag-regex, images-by-semver, images-by-last", func(key, value *yaml.Node) error {
		switch key.Value {
		case "images":
			return p.rules(&s, value, p.tags)
		case "images-by-tag-regex":
			return p.rules(&s, value, p.regex)
		case "images-by-semver":
			return p.rules(&s, value, p.semver)
		case "images-by-last":
			return p.rules(&s, value, p.last)
		case "to":
			s.To = value.Value
			return p.text(value)
		case "platform":
			platform, err := image.ParsePlatform(value.Value)
			if err != nil {
				return p.errorf(value, "%v", err)
			}
			s.Platform = &platform
		case "referrers":
			if err := value.Decode(&s.Referrers); err != nil {
				return p.errorf(value, "referrers: want true or false")
			}
		case "credentials":
			return &Error{Pos: p.pos(key), Text: "credentials do not belong into this file", Hint: "nacre login " + s.Host}
		case "tls-verify", "cert-dir":
			return &Error{Pos: p.pos(key), Text: key.Value + " is said in registries.toml, for all commands"}
		default:
			return p.errorf(key, "%s is not known; what is: images, images-by-tag-regex, images-by-semver, images-by-last, to, platform, referrers", key.Value)
		}
		return nil
	})
	if err == nil && len(s.Rules) == 0 {
		err = p.errorf(host, "%s: nothing is to be copied from it", s.Host)
	}
	return s, err
}

func (p parser) text(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		return p.errorf(n, "want a text")
	}
	return nil
}

// rules reads one of the mappings from repositories to what of them.
func (p parser) rules(s *Source, n *yaml.Node, read func(*Rule, *yaml.Node) error) error {
	return p.each(n, "a repository for each key", func(key, value *yaml.Node) error {
		repo := key.Value
		if s.Host == "docker.io" && !strings.Contains(repo, "/") {
			repo = "library/" + repo
		}
		ref, err := registry.ParseRef(s.Host + "/" + repo)
		if err != nil || ref.Repo != s.Host+"/"+repo || ref.Digest != "" {
			return p.errorf(key, "%q is not the name of a repository", key.Value)
		}
		r := Rule{Pos: p.pos(key), Repo: ref.Repo}
		if err := read(&r, value); err != nil {
			return err
		}
		s.Rules = append(s.Rules, r)
		return nil
	})
}

// tags reads a list of tags and digests; an empty one means all tags.
func (p parser) tags(r *Rule, n *yaml.Node) error {
	if n.Tag == "!!null" || n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		r.All = true
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return p.errorf(n, "want a list of tags, or [] for all")
	}
	for _, item := range n.Content {
		if err := p.text(item); err != nil {
			return err
		}
		if strings.Contains(item.Value, ":") {
			d, err := digest.Parse(item.Value)
			if err != nil {
				return p.errorf(item, "%q is neither a tag nor a digest", item.Value)
			}
			r.Digests = append(r.Digests, d)
			continue
		}
		if ref, err := registry.ParseRef(r.Repo + ":" + item.Value); err != nil || ref.Tag != item.Value {
			return p.errorf(item, "%q is not a tag", item.Value)
		}
		r.Tags = append(r.Tags, item.Value)
	}
	return nil
}

// pick reads TEXT, or {name: TEXT, last: N}.
func (p parser) pick(r *Rule, n *yaml.Node, name string) (string, error) {
	if n.Kind == yaml.ScalarNode {
		return n.Value, p.text(n)
	}
	var text string
	err := p.each(n, name+" and last", func(key, value *yaml.Node) error {
		switch key.Value {
		case name:
			text = value.Value
			return p.text(value)
		case "last":
			return p.last(r, value)
		}
		return p.errorf(key, "%s is not known; what is: %s, last", key.Value, name)
	})
	if err == nil && text == "" {
		err = p.errorf(n, "%s is missing", name)
	}
	return text, err
}

func (p parser) regex(r *Rule, n *yaml.Node) error {
	text, err := p.pick(r, n, "regex")
	if err != nil {
		return err
	}
	if r.Regex, err = regexp.Compile(text); err != nil {
		return p.errorf(n, "%v", err)
	}
	return nil
}

func (p parser) semver(r *Rule, n *yaml.Node) error {
	text, err := p.pick(r, n, "range")
	if err != nil {
		return err
	}
	if r.Range, err = ParseRange(text); err != nil {
		return p.errorf(n, "%v", err)
	}
	return nil
}

func (p parser) last(r *Rule, n *yaml.Node) error {
	last, err := strconv.Atoi(n.Value)
	if err != nil || last < 1 {
		return p.errorf(n, "last: want a number of tags, not %q", n.Value)
	}
	r.Last = last
	return nil
}
