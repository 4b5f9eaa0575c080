package container

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nacre/internal/network"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// addNetwork is the container's network, and the files by which it sees names.
func (p *parts) addNetwork(ctx context.Context) error {
	a := p.c.networkAsk()
	a.OwnUser = slices.ContainsFunc(p.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	n, err := network.Open(ctx, a)
	if err != nil {
		return err
	}
	p.network = n
	n.Apply(p.spec)
	for _, f := range n.Files {
		p.files = append(p.files, sandbox.File{Path: f.Path, Data: f.Data, Writable: !p.c.Config.ReadOnly})
	}
	if n.Created != nil {
		p.created = append(p.created, n.Created)
	}
	return nil
}

// networkAsk is what the container asks of its network.
func (c *Container) networkAsk() network.Ask {
	return network.Ask{
		Options: c.Config.Network, ID: c.ID, Name: c.Name, Hostname: c.Hostname(), Domainname: c.Config.Domainname,
		Exposed: slices.Sorted(maps.Keys(c.Config.Exposed)), Guard: sandbox.Guard, Join: c.join,
	}
}

// join is what a container shares with another, which must be running.
func (c *Container) join(ctx context.Context, name string) (network.Joined, error) {
	other, err := c.cs.Find(ctx, name)
	if err != nil {
		return network.Joined{}, err
	}
	st := other.State
	if st.Pid == 0 {
		return network.Joined{}, fmt.Errorf("cannot join network of a non running container: %s", other.ShortID())
	}
	if other.Config.Network.Mode == network.ModeHost {
		return network.Joined{}, fmt.Errorf("container %s has the host's network: use --network host", other.ShortID())
	}
	path := fmt.Sprintf("/proc/%d/ns/net", st.Pid)
	if next, ok := strings.CutPrefix(other.Config.Network.Mode, network.ModeContainer); ok {
		j, err := other.join(ctx, next)
		return network.Joined{Path: path, Files: j.Files}, err
	}
	files, err := network.Files(other.networkAsk(), st.Network)
	return network.Joined{Path: path, Files: files}, err
}
