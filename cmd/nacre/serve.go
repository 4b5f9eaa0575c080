package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"nacre/internal/registry/hosted"
	"nacre/internal/serve"
	"nacre/internal/serve/auth"
	"nacre/internal/serve/config"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// serveFlags are the flags of serve and its subcommands.
type serveFlags struct {
	config, dir, addr, state, tlsCert, tlsKey, htpasswd string
	readOnly, check                                     bool
}

func serveCommand(a *app) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [OPTIONS]",
		Short: "Run a registry: the store, or a folder of its own, for others to pull from and push to",
		Long: `Run a registry for docker, podman, containerd and everything else that knows the OCI
distribution spec. Without --dir it serves the local store: what "nacre build -t app ."
made can be pulled as 127.0.0.1:5000/app, without a push.

Everything else is said in a file (--config); docs/serve.md explains every key. Flags win over
the file. SIGTERM and SIGINT let running requests end; a second one does not.`,
		Example: `  nacre serve
  nacre serve --dir /srv/registry --addr :5000 --tls-cert cert.pem --tls-key key.pem --htpasswd users
  nacre serve --config serve.yaml --check-config
  nacre serve gc --config serve.yaml --dry-run`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.load(cmd)
			if err != nil {
				return err
			}
			if f.check {
				return a.checkServe(c, f.config)
			}
			return a.serve(cmd, c)
		},
	}
	all := cmd.PersistentFlags()
	all.StringVarP(&f.config, "config", "c", "", "YAML `file` with the configuration")
	all.StringVar(&f.dir, "dir", "", "`folder` of the registry, made if need be (default: the local store)")
	fl := cmd.Flags()
	fl.StringVar(&f.addr, "addr", "127.0.0.1:5000", "`address` to listen at; :5000 is every address of this machine")
	fl.StringVar(&f.state, "state", "", "`folder` for keys, queues and unfinished uploads (default: serve in the folder of the registry)")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "`file` with the certificate (PEM); read again when it changes")
	fl.StringVar(&f.tlsKey, "tls-key", "", "`file` with the certificate's key (PEM)")
	fl.StringVar(&f.htpasswd, "htpasswd", "", "`file` with users and bcrypt hashes; read again when it changes")
	fl.BoolVar(&f.readOnly, "read-only", false, "refuse pushes and deletions")
	fl.BoolVar(&f.check, "check-config", false, "only say what is wrong with the configuration and the files it names")
	cmd.AddCommand(serveGCCommand(a, &f), serveRetentionCommand(a, &f), serveTokenCommand(a))
	return cmd
}

// load is the configuration of the file, with what the flags say in its place.
func (f *serveFlags) load(cmd *cobra.Command) (config.Config, error) {
	c := config.Default()
	var err error
	if f.config != "" {
		if c, err = config.Load(f.config); err != nil {
			return c, problems(err)
		}
	}
	for name, to := range map[string]*string{
		"dir": &c.Dir, "addr": &c.Addr, "state": &c.State, "tls-cert": &c.TLS.Cert, "tls-key": &c.TLS.Key, "htpasswd": &c.Auth.Htpasswd,
	} {
		if flag := cmd.Flag(name); flag != nil && flag.Changed {
			*to = flag.Value.String()
		}
	}
	if flag := cmd.Flag("read-only"); flag != nil && flag.Changed {
		c.ReadOnly = f.readOnly
	}
	if flag := cmd.Flag("log-level"); flag != nil && flag.Changed {
		c.Log.Level = flag.Value.String()
	}
	return c, problems(c.Check())
}

// problems reports each thing that is wrong on its own line.
func problems(err error) error {
	var p config.Problems
	if !errors.As(err, &p) {
		return err
	}
	list := several{}
	for _, one := range p.Unwrap() {
		list = append(list, one)
	}
	return list
}

func (a *app) checkServe(c config.Config, file string) error {
	if err := serve.CheckFiles(c); err != nil {
		return flatten(err)
	}
	if file == "" {
		file = "the configuration"
	}
	fmt.Fprintf(a.stdout, "%s is valid\n", file)
	return nil
}

// flatten makes several of what errors.Join joined.
func flatten(err error) several {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return several{err}
	}
	var list several
	for _, e := range joined.Unwrap() {
		list = append(list, flatten(e)...)
	}
	return list
}

func (a *app) serve(cmd *cobra.Command, c config.Config) error {
	ctx := cmd.Context()
	log, err := serve.NewLog(c.Log, a.stderr, term.IsTerminal(int(a.stderr.Fd())))
	if err != nil {
		return err
	}
	h, err := a.openHosted(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := h.Close(); err != nil {
			log.Error("writing down pull times", "error", err.Error())
		}
	}()
	r, done, err := proxied(c, h, log)
	if err != nil {
		return err
	}
	defer done()
	s, err := serve.New(ctx, c, r, serve.Options{State: a.stateFolder(c), Log: log, Jobs: serveJobs(c, h), Version: version, Name: hosted.OwnName})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// stateFolder is where the server keeps what is no image.
func (a *app) stateFolder(c config.Config) string {
	switch {
	case c.State != "":
		return c.State
	case c.Dir != "":
		return filepath.Join(c.Dir, "serve")
	}
	return filepath.Join(a.rootFolder(), "serve")
}

func serveTokenCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "token NAME",
		Short:   "Make a token for a program, and the lines of the configuration that let it in",
		Example: "  nacre serve token ci",
		Args:    exactArgs(1, "want the name of one program"),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, sum := auth.NewToken()
			entry := config.Default()
			entry.Auth.Tokens = []config.Token{{Name: args[0], SHA256: sum}}
			if err := entry.Check(); err != nil {
				return problems(err)
			}
			fmt.Fprintln(a.stdout, token)
			fmt.Fprintf(a.stderr, "It is not shown again. In the configuration:\n\nauth:\n  tokens:\n    - name: %s\n      sha256: %s\n", args[0], sum)
			return nil
		},
	}
}
