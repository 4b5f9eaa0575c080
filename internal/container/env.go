package container

import (
	"strings"

	"nacre/internal/rootfs"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is what docker gives: its own few, then what Config has; later ones win.
func (c *Container) environ(u rootfs.User) []string { return c.environFor(u, c.Config.TTY) }

// environFor is environ of a process that has a terminal, or not.
func (c *Container) environFor(u rootfs.User, tty bool) []string {
	home := u.Home
	if home == "" {
		home = "/"
	}
	env := []string{"HOME=" + home, defaultPath, "HOSTNAME=" + c.Hostname()}
	if tty {
		env = append(env, "TERM=xterm")
	}
	return MergeEnv(env, c.Config.Env)
}

// MergeEnv keeps the last value of each name, in the place of its first.
func MergeEnv(lists ...[]string) []string {
	var out []string
	at := map[string]int{}
	for _, env := range lists {
		for _, e := range env {
			name, _, _ := strings.Cut(e, "=")
			if i, ok := at[name]; ok {
				out[i] = e
				continue
			}
			at[name] = len(out)
			out = append(out, e)
		}
	}
	return out
}

// gids are the supplementary groups, the primary one among them as in docker: without it
// a setgid program could give up a group that files deny something to (CVE-2022-36109).
func gids(u rootfs.User) []uint32 {
	out := []uint32{uint32(u.GID)}
	for _, g := range u.Groups {
		if g != u.GID {
			out = append(out, uint32(g))
		}
	}
	return out
}
