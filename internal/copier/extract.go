package copier

import (
	"path"

	"nacre/internal/layer"
)

// Extract puts all of t, an archive that ADD unpacks, into directory dest: owners
// and modes as the archive has them (unless o.Owner is set), objects that are there
// already replaced, directories merged. The archive's own root entry is ignored.
func (p *Plan) Extract(t Tree, dest string, o Options) error {
	c, err := newCopy(p, t, o)
	if err != nil {
		return err
	}
	root, err := t.Lstat(".")
	if err != nil {
		return err
	}
	to, err := c.resolve(dest)
	if err != nil {
		return err
	}
	owner := Owner{}
	if o.Owner != nil {
		owner = *o.Owner
	}
	if err := c.mkdirAll(to, 0o755, owner, root.Sys().(*layer.Stat).ModTime); err != nil {
		return err
	}
	return c.extractDir(".", to)
}

func (c *copying) extractDir(from, to string) error {
	entries, err := c.tree.ReadDir(from)
	if err != nil {
		return err
	}
	for _, d := range entries {
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*layer.Stat)
		name, target := join(from, d.Name()), join(to, d.Name())
		if err := c.extract(name, target, st); err != nil {
			return err
		}
		if !isDir(st.Mode) {
			continue
		}
		if st.Implicit {
			// The archive never named this directory, so a symlink in its place is followed.
			if target, err = c.resolve(target); err != nil {
				return err
			}
		}
		if err := c.extractDir(name, target); err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) extract(name, target string, st *layer.Stat) error {
	if isDir(st.Mode) && st.Implicit {
		at, err := c.resolve(target)
		if err != nil {
			return err
		}
		if _, ok, err := c.lookup(at); err != nil || ok {
			return err
		}
		target = path.Clean(at)
	}
	return c.Plan.put(target, &node{File: c.file(name, st), group: c.groupOf(st)})
}
