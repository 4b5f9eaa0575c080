package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nacre/internal/build"
	"nacre/internal/sshagent"

	"github.com/spf13/pflag"
)

// grants are the flags that give RUN steps what they do not have by themselves.
type grants struct{ secrets, ssh, allow, deviceDirs []string }

func (g *grants) register(fl *pflag.FlagSet) {
	listVar(fl, &g.secrets, "secret", "", "id=ID[,src=FILE|,env=NAME] for RUN --mount=type=secret; may be repeated")
	listVar(fl, &g.ssh, "ssh", "", "default|ID[=SOCKET|KEY[,KEY]]: SSH agent or private keys for RUN --mount=type=ssh; may be repeated")
	listVar(fl, &g.allow, "allow", "", "what RUN may ask for: network.host, security.insecure, device[=NAME[,alias=NAME]]; may be repeated")
	listVar(fl, &g.deviceDirs, "cdi-spec-dir", "", "where RUN --device finds CDI specs (default: $NACRE_CDI_SPEC_DIRS, else /etc/cdi and /var/run/cdi); may be repeated")
}

// apply adds the grants to o. done ends what serves them.
func (g *grants) apply(o *build.Options) (done func() error, err error) {
	done = func() error { return nil }
	for _, e := range g.allow {
		if strings.HasPrefix(e, "device=") { // its commas are its own
			o.Allow = append(o.Allow, e)
		} else {
			o.Allow = append(o.Allow, strings.Split(e, ",")...)
		}
	}
	if err := build.CheckAllow(o.Allow); err != nil {
		return done, fmt.Errorf("--allow: %w", err)
	}
	if o.DeviceDirs = g.deviceDirs; len(o.DeviceDirs) == 0 {
		o.DeviceDirs = filepath.SplitList(os.Getenv("NACRE_CDI_SPEC_DIRS"))
	}
	if o.Secret, err = parseSecrets(g.secrets); err != nil {
		return done, err
	}
	var sources []sshagent.Source
	for _, v := range g.ssh {
		s, err := sshagent.Parse(v)
		if err != nil {
			return done, fmt.Errorf("--ssh: %w", err)
		}
		sources = append(sources, s)
	}
	if len(sources) == 0 {
		return done, nil
	}
	agents, err := sshagent.Serve(sources)
	if err != nil {
		return done, fmt.Errorf("--%w", err)
	}
	o.SSH = agents.Sockets()
	o.SSHAgent = o.SSH["default"]
	return agents.Close, nil
}

// secret is one --secret: a file, or else a variable.
type secret struct{ file, env string }

// parseSecrets reads --secret flags as docker does. Files are looked at now, so that
// what is not there is known before anything is built, and read when they are needed.
func parseSecrets(flags []string) (func(id string) ([]byte, error), error) {
	secrets := map[string]secret{}
	for _, flag := range flags {
		id, s, err := parseSecret(flag)
		if err == nil && secrets[id] != (secret{}) {
			err = errors.New("given more than once")
		}
		if err == nil && s.file != "" {
			var info os.FileInfo
			if info, err = os.Stat(s.file); err == nil && info.IsDir() {
				err = fmt.Errorf("%s is a directory", s.file)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("--secret %s: %w", id, err)
		}
		secrets[id] = s
	}
	return func(id string) ([]byte, error) { return secrets[id].read() }, nil
}

func parseSecret(flag string) (id string, s secret, err error) {
	fields, err := csv.NewReader(strings.NewReader(flag)).Read()
	if err != nil {
		return "", s, errors.New("want id=ID[,src=FILE|,env=NAME]") // err may have its value
	}
	kind := ""
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return id, s, fmt.Errorf("%q: want KEY=VALUE", f)
		}
		switch strings.ToLower(key) {
		case "id":
			id = value
		case "src", "source":
			s.file = value
		case "env":
			s.env = value
		case "type":
			if kind = value; !slices.Contains([]string{"file", "env"}, kind) {
				return id, s, fmt.Errorf("type=%s: want file or env", kind)
			}
		default:
			return id, s, fmt.Errorf("unknown key %q: want id, src, env or type", key)
		}
	}
	if id == "" {
		return id, s, errors.New("it has no id")
	}
	if kind == "env" && s.env == "" {
		s.env, s.file = s.file, ""
	}
	if s.file == "" && s.env == "" { // the ID says which, too
		if _, set := os.LookupEnv(id); kind == "env" || kind == "" && set {
			s.env = id
		} else {
			s.file = id
		}
	}
	if s.file != "" && s.env != "" {
		return id, s, errors.New("src and env cannot both be given")
	}
	return id, s, nil
}

// maxSecretFile is where reading the file of a secret ends: the build refuses less.
const maxSecretFile = 1 << 20

// read returns the value; nil where there is none.
func (s secret) read() ([]byte, error) {
	if s.env != "" {
		if v, set := os.LookupEnv(s.env); set {
			return []byte(v), nil
		}
		return nil, nil
	}
	if s.file == "" {
		return nil, nil
	}
	f, err := os.Open(s.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	if data == nil {
		data = []byte{}
	}
	return data, err
}
