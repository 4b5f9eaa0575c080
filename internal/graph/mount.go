package graph

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// MountType is what a mount of RUN is.
type MountType string

// The types of mounts.
const (
	MountBind   MountType = "bind"   // files of the context, a stage or an image
	MountCache  MountType = "cache"  // a directory that outlives the build
	MountTmpfs  MountType = "tmpfs"  // memory
	MountSecret MountType = "secret" // a file or variable that is in no layer
	MountSSH    MountType = "ssh"    // the socket of an SSH agent
)

// Mount is a --mount of RUN. Zero fields were not given.
type Mount struct {
	Type   MountType
	Target string // absolute path in the root; empty: a secret in Env alone
	// From is the step whose root is mounted, or is what a new cache begins with; nil: the context
	// that Context names, which is the main one for a bind that names none, nothing for a cache.
	From     *Step
	Context  string
	Source   string // bind and cache: path in there, cleaned; "." is the root
	ReadOnly bool
	Size     int64  // tmpfs: bytes; 0: as the kernel has it
	ID       string // cache, secret, ssh
	Sharing  string // cache: "shared", "private" or "locked"
	Required bool   // secret, ssh: without it the step fails
	Env      string // secret: variable that holds it
	// Mode, UID and GID are those of a new cache, a secret's file, an agent's socket.
	Mode, UID, GID *uint32
}

// sshDir is where the sockets of agents are that have no target.
const sshDir = "/run/buildkit"

func (m *Mount) fields() []Field {
	from := "context:" + m.Context
	if m.From != nil {
		from = "step"
	}
	f := []Field{{"mount", string(m.Type)}, {"target", m.Target}, {"id", m.ID}, {"readonly", strconv.FormatBool(m.ReadOnly)}}
	switch m.Type {
	case MountBind, MountCache:
		f = append(f, Field{"from", from}, Field{"source", m.Source}, Field{"sharing", m.Sharing})
	case MountTmpfs:
		f = append(f, Field{"size", strconv.FormatInt(m.Size, 10)})
	case MountSecret:
		f = append(f, Field{"env", m.Env})
	}
	for _, n := range []struct {
		name  string
		value *uint32
		base  int
	}{{"mode", m.Mode, 8}, {"uid", m.UID, 10}, {"gid", m.GID, 10}} {
		if n.value != nil {
			f = append(f, Field{n.name, strconv.FormatUint(uint64(*n.value), n.base)})
		}
	}
	return f
}

// linkMounts finds what each mount of a RUN is from.
func (p *planner) linkMounts(s *stage, cmd command, c *instructions.RunCommand) (command, error) {
	for _, m := range parsedMounts(c) {
		var o origin
		if m.From != "" {
			var err error
			if o, err = p.findOrigin(s, m.From, c.Location()); err != nil {
				return cmd, err
			}
		}
		cmd.mounts = append(cmd.mounts, o)
	}
	return cmd, nil
}

// parsing guards the mounts of parsed RUN instructions: expanding their variables
// changes the instruction, which other plans of the same file may be reading.
var parsing sync.Mutex

func parsedMounts(c *instructions.RunCommand) []instructions.Mount {
	parsing.Lock()
	defer parsing.Unlock()
	return copyMounts(c)
}

func copyMounts(c *instructions.RunCommand) []instructions.Mount {
	var list []instructions.Mount
	for _, m := range instructions.GetMounts(c) {
		list = append(list, *m)
	}
	return list
}

// expandMounts replaces the variables in the mounts of c.
func (p *planner) expandMounts(s *stage, c *instructions.RunCommand) ([]instructions.Mount, error) {
	parsing.Lock()
	defer parsing.Unlock()
	err := c.Expand(func(word string) (string, error) {
		result, matches, err := expand(p.lex, word, s.env)
		p.lintUndefined(s, c, matches.Unmatched)
		return result, err
	})
	return copyMounts(c), err
}

// mounts are those of a RUN, checked, with everything filled in that has a default.
func (p *planner) mounts(s *stage, cmd command, c *instructions.RunCommand) ([]Mount, error) {
	given, err := p.expandMounts(s, c)
	if err != nil {
		return nil, err
	}
	var list []Mount
	for i, g := range given {
		m, err := p.mount(s, g, cmd.mounts[i])
		if err != nil {
			return nil, err
		}
		if m.Type == MountSSH && m.Target == "" {
			m.Target = fmt.Sprintf("%s/ssh_agent.%d", sshDir, len(sockets(list)))
		}
		list = append(list, m)
	}
	return list, nil
}

func sockets(list []Mount) (found []Mount) {
	for _, m := range list {
		if m.Type == MountSSH {
			found = append(found, m)
		}
	}
	return found
}

func (p *planner) mount(s *stage, g instructions.Mount, o origin) (Mount, error) {
	m := Mount{
		Type: MountType(g.Type), Context: o.context, ReadOnly: g.ReadOnly, Size: g.SizeLimit, ID: g.CacheID,
		Sharing: string(g.CacheSharing), Required: g.Required, Mode: narrow(g.Mode), UID: narrow(g.UID), GID: narrow(g.GID),
	}
	for _, text := range []string{g.Target, g.Source, g.CacheID, g.From} {
		if strings.ContainsRune(text, 0) {
			return m, fmt.Errorf("%q cannot be part of a mount", text)
		}
	}
	if g.Target != "" {
		m.Target = path.Clean(absolute(s.config().WorkingDir, g.Target))
	}
	switch m.Type {
	case MountSecret:
		return m, m.secret(g)
	case MountSSH:
		if g.Source != "" {
			return m, errors.New("ssh does not support source")
		}
		if m.ID == "" {
			m.ID = "default"
		}
		return m, m.checkTarget()
	case MountTmpfs:
		if g.Target == "" {
			return m, errors.New("a mount of type tmpfs needs a target")
		}
		return m, m.checkTarget()
	}
	if g.Target == "" {
		return m, fmt.Errorf("a mount of type %s needs a target", m.Type)
	}
	m.Source = clean(g.Source)
	if o.from != nil {
		if o.from.index >= 0 && !o.from.dispatched {
			return m, fmt.Errorf("cannot mount from stage %q to %q, stage needs to be defined before current command", g.From, g.Target)
		}
		m.From = p.rootOf(o.from)
	}
	if m.Type == MountCache {
		if g.From == "" && m.Source != "." {
			return m, fmt.Errorf("source=%s of a cache needs from=: without, a cache begins empty", g.Source)
		}
		p.cache(&m, g)
	}
	return m, m.checkTarget()
}

// cache fills in what makes a cache the one it is.
func (p *planner) cache(m *Mount, g instructions.Mount) {
	if m.ID == "" {
		m.ID = path.Clean(g.Target)
	}
	// BuildKit's way to keep the caches of one project apart from those of others.
	if ns := p.args["BUILDKIT_CACHE_MOUNT_NS"]; ns != "" {
		m.ID = ns + "/" + m.ID
	}
	if m.Sharing == "" {
		m.Sharing = string(instructions.MountSharingShared)
	}
}

// secret works out the ID of a secret and where it goes: to its target or
// /run/secrets, unless it goes to a variable.
func (m *Mount) secret(g instructions.Mount) error {
	if g.Source != "" {
		m.ID = g.Source
	}
	if m.ID == "" {
		m.ID = path.Base(m.Target)
	}
	if g.Env != nil {
		if m.Env = *g.Env; m.Env == "" {
			m.Env = m.ID
		}
		if strings.ContainsAny(m.Env, "=\x00") {
			return fmt.Errorf("%q cannot be the name of a variable", m.Env)
		}
	} else if m.Target == "" {
		m.Target = "/run/secrets/" + path.Base(m.ID)
	}
	return m.checkTarget()
}

func (m *Mount) checkTarget() error {
	if m.Target == "/" {
		return fmt.Errorf("invalid mount target %q", m.Target)
	}
	return nil
}

func narrow(n *uint64) *uint32 {
	if n == nil {
		return nil
	}
	v := uint32(*n) // the parser takes no more than 32 bits
	return &v
}

// masked is env with stars for what secrets are in variables: names of steps then
// say that there is a value, and that it is not told.
func masked(env *vars, mounts []Mount) *vars {
	shown := env
	for _, m := range mounts {
		if m.Type != MountSecret || m.Env == "" {
			continue
		}
		if shown == env {
			shown = env.clone()
		}
		shown.set(m.Env, "****")
	}
	return shown
}
