package graph

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"nacre/internal/image"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// scripts is where heredocs with a shebang are while they run. It is below /dev,
// which is not part of the root, so that no mount point stays behind.
const scripts = "/dev/pipes"

func (p *planner) run(s *stage, cmd command, c *instructions.RunCommand) error {
	insecure := instructions.GetSecurity(c) == instructions.SecurityInsecure
	if insecure {
		if err := p.entitled("security.insecure", "RUN --security=insecure"); err != nil {
			return err
		}
	}
	network, err := p.networkOf(c)
	if err != nil {
		return err
	}
	mounts, err := p.mounts(s, cmd, c)
	if err != nil {
		return err
	}
	devices, err := devices(c)
	if err != nil {
		return err
	}
	args, files, summary, err := heredocs(c)
	if err != nil {
		return err
	}
	if c.PrependShell {
		args = withShell(&s.image, args)
	}
	if len(args) == 0 {
		return errors.New("RUN needs a command")
	}
	lex := *p.lex
	lex.RawQuotes, lex.RawEscapes, lex.SkipUnsetEnv = true, true, true
	step := p.step(s, cmd, shown(&lex, c.String()+summary, masked(s.env, mounts)), &Run{
		Args: args, Env: s.env.environ(), Proxy: p.proxies(), Dir: path.Clean("/" + s.config().WorkingDir), User: s.config().User, Network: network, Files: files,
		Insecure: insecure, Mounts: mounts, Devices: devices, Foreign: p.foreign(s), Scope: s.scope(),
	})
	s.record("RUN "+s.argsInScope()+strings.Join(args, " ")+" # buildkit", step)
	return nil
}

// foreign is the platform of a stage whose programs do not run here as such.
func (p *planner) foreign(s *stage) string {
	if samePlatform(s.platform, p.o.BuildPlatform) {
		return ""
	}
	return image.FormatPlatform(s.platform)
}

// devices are those a RUN asks for. Who may have them, and what they are, is known where it runs.
func devices(c *instructions.RunCommand) (list []Device, err error) {
	for _, d := range instructions.GetDevices(c) {
		if d.Name == "" || strings.ContainsRune(d.Name, 0) {
			return nil, errors.New("RUN --device needs the name of a device: --device=vendor.com/class=name[,required]")
		}
		list = append(list, Device(*d))
	}
	return list, nil
}

// networkOf is the network of a RUN. The host's is the default one here; who builds
// with another has to allow a step to have it.
func (p *planner) networkOf(c *instructions.RunCommand) (string, error) {
	network := instructions.GetNetwork(c)
	if network == instructions.NetworkDefault && p.o.Network != "" {
		return p.o.Network, nil
	}
	if network == instructions.NetworkHost && p.o.Network == instructions.NetworkNone {
		return network, p.entitled("network.host", "RUN --network=host")
	}
	return network, nil
}

// entitled refuses what the build was not allowed.
func (p *planner) entitled(entitlement, what string) error {
	if slices.Contains(p.o.Allow, entitlement) {
		return nil
	}
	return fmt.Errorf("%s is not allowed: build with --allow %s", what, entitlement)
}

// heredocs gives RUN its command. A heredoc that is all of it is a script: for the
// shell, or with a shebang a file of its own. Other heredocs are for the shell to read.
func heredocs(c *instructions.RunCommand) (args []string, files []InlineFile, summary string, err error) {
	if len(c.Files) == 0 {
		return c.CmdLine, nil, "", nil
	}
	if len(c.CmdLine) != 1 || !c.PrependShell {
		return nil, nil, "", errors.New("a heredoc needs the shell form")
	}
	if parser.MustParseHeredoc(c.CmdLine[0]) == nil {
		var b strings.Builder
		b.WriteString(c.CmdLine[0])
		for _, f := range c.Files {
			b.WriteString("\n" + f.Data + f.Name)
		}
		return []string{b.String()}, nil, "", nil
	}
	f := c.Files[0]
	data := f.Data
	if f.Chomp {
		data = parser.ChompHeredocContent(data)
	}
	summary = fmt.Sprintf(" (%s)", firstLine(strings.ReplaceAll(strings.TrimSpace(f.Data), "\r\n", "\n")))
	if !strings.HasPrefix(data, "#!") {
		return []string{data}, nil, summary, nil
	}
	if err := checkFileName(f.Name); err != nil {
		return nil, nil, "", err
	}
	file := InlineFile{Path: path.Join(scripts, f.Name), Data: []byte(data), Mode: 0o755}
	return []string{file.Path}, []InlineFile{file}, summary, nil
}

// checkFileName refuses the name of a heredoc that cannot be that of a file.
func checkFileName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
		return fmt.Errorf("heredoc %q cannot be the name of a file", name)
	}
	return nil
}

// scope is the names of build arguments that are declared so far.
func (s *stage) scope() (names []string) {
	for _, a := range s.args {
		names = append(names, a.Key)
	}
	return names
}

// argsInScope is how history shows ARGs: `|2 A=1 B= `.
func (s *stage) argsInScope() string {
	var keys []string
	values := map[string]string{}
	for _, a := range s.args {
		v, ok := s.env.Get(a.Key)
		if !ok {
			v = a.ValueString()
		}
		if _, ok := values[a.Key]; !ok {
			keys = append(keys, a.Key)
		}
		values[a.Key] = v
	}
	if len(keys) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "|%d ", len(keys))
	for _, k := range keys {
		b.WriteString(k + "=" + values[k] + " ")
	}
	return b.String()
}

// proxies are the proxy build arguments, which RUN sees whether declared or not,
// in both spellings.
func (p *planner) proxies() []string {
	var found [5]string
	names := [5]string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}
	for _, k := range slices.Sorted(maps.Keys(p.args)) {
		for i, n := range names {
			if strings.EqualFold(k, n) {
				found[i] = p.args[k]
			}
		}
	}
	var env []string
	for i, n := range names {
		if found[i] != "" {
			env = append(env, n+"="+found[i], strings.ToLower(n)+"="+found[i])
		}
	}
	return env
}
