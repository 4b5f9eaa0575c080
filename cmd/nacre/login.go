package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"nacre/internal/registry/remote"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// maxPassword bounds what --password-stdin reads, in bytes: tokens are long, but not that long.
const maxPassword = 1 << 20

type loginFlags struct {
	user, password string
	stdin          bool
}

func loginCommand(a *app) *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Log in to a registry",
		Long: `Ask a registry (docker.io where none is named) whether it knows the user, and keep
user and password for later: with the credential helper that docker's config.json
names, or in that file, which is not encrypted.`,
		Example: `  nacre login registry.example.com
  cat token.txt | nacre login -u ci --password-stdin registry.example.com`,
		Args:              maxArgs(1, "login takes one registry"),
		ValidArgsFunction: one(a.completeHost(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return login(cmd.Context(), a, f, args, cmd.Flags().Changed("password"))
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.user, "username", "u", "", "user name")
	fl.StringVarP(&f.password, "password", "p", "", "password or token; others on this machine may see it: --password-stdin is better")
	fl.BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

func logoutCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "logout [SERVER]",
		Short:             "Log out from a registry",
		Example:           "  nacre logout registry.example.com",
		Args:              maxArgs(1, "logout takes one registry"),
		ValidArgsFunction: one(a.completeHost(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			domain, err := registryOf(args)
			if err != nil {
				return err
			}
			was, err := remote.DefaultCredentials().Logout(cmd.Context(), domain)
			if err != nil {
				return err
			}
			if was {
				fmt.Fprintln(a.stdout, "Removing login credentials for", domain)
			} else {
				fmt.Fprintln(a.stdout, "Not logged in to", domain)
			}
			return nil
		},
	}
}

// registryOf is the registry that login and logout are about.
func registryOf(args []string) (string, error) {
	if len(args) == 0 {
		return "docker.io", nil
	}
	domain := remote.Domain(args[0])
	if domain == "" || strings.ContainsAny(domain, " @?#") {
		return "", fmt.Errorf("%q is not the name of a registry", args[0])
	}
	return domain, nil
}

func login(ctx context.Context, a *app, f loginFlags, args []string, given bool) error {
	domain, err := registryOf(args)
	if err != nil {
		return err
	}
	o, err := a.remoteOptions()
	if err != nil {
		return err
	}
	keep := remote.DefaultCredentials()
	who, known, err := a.askCredential(ctx, f, given, domain, keep)
	if err != nil {
		return err
	}
	if err := remote.Verify(ctx, o, domain, who); err != nil {
		if errors.Is(err, remote.ErrUnauthorized) {
			err = &hintError{fmt.Errorf("%s does not know this user or password: %w", domain, err), "user and password are those of the registry; some want a token in place of the password"}
		}
		return err
	}
	if !known {
		file, err := keep.Login(ctx, domain, who)
		if err != nil {
			return err
		}
		if file != "" {
			a.warnf("the password is kept unencrypted in %s; a credential helper (credsStore) would not", file)
		}
	}
	fmt.Fprintln(a.stdout, "Login Succeeded")
	return nil
}

// askCredential is who to log in as: by the flags, as already known, or as asked for on the terminal.
func (a *app) askCredential(ctx context.Context, f loginFlags, given bool, domain string, keep remote.Credentials) (who remote.Credential, known bool, err error) {
	switch {
	case f.stdin && given:
		return who, false, errors.New("--password and --password-stdin exclude each other")
	case f.stdin && f.user == "":
		return who, false, errors.New("--password-stdin needs --username")
	case f.stdin:
		if f.password, err = readPassword(a.stdin); err != nil {
			return who, false, err
		}
	case given:
		a.warnf("--password shows the password to others on this machine; --password-stdin does not")
	}
	if f.user == "" && !given {
		if who, err = keep.Get(ctx, domain); err != nil || who != (remote.Credential{}) {
			return who, true, err
		}
	}
	if f.user != "" && f.password != "" {
		return remote.Credential{Username: f.user, Password: f.password}, false, nil
	}
	if given || f.stdin {
		if f.password == "" {
			return who, false, errors.New("the password is empty")
		}
	}
	if !term.IsTerminal(int(a.stdin.Fd())) {
		return who, false, &hintError{errors.New("login needs a user and a password, and standard input is no terminal to ask on"), "--username with --password-stdin"}
	}
	who, err = a.prompt(ctx, f)
	return who, false, err
}

// readPassword reads all of r but its last end of line.
func readPassword(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if len(data) > maxPassword {
		return "", fmt.Errorf("the password on standard input has more than %d bytes", maxPassword)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), nil
}

// prompt asks for what the flags do not say; the password is not shown.
func (a *app) prompt(ctx context.Context, f loginFlags) (who remote.Credential, err error) {
	who = remote.Credential{Username: f.user, Password: f.password}
	if who.Username == "" {
		fmt.Fprint(a.stderr, "Username: ")
		who.Username, err = a.ask(ctx, func() (string, error) { return bufio.NewReader(a.stdin).ReadString('\n') })
		if err != nil {
			return who, fmt.Errorf("read the user name: %w", err)
		}
		who.Username = strings.TrimSpace(who.Username)
	}
	if who.Password == "" {
		fmt.Fprint(a.stderr, "Password: ")
		who.Password, err = a.ask(ctx, func() (string, error) {
			data, err := term.ReadPassword(int(a.stdin.Fd()))
			return string(data), err
		})
		fmt.Fprintln(a.stderr)
		if err != nil {
			return who, fmt.Errorf("read the password: %w", err)
		}
	}
	if who.Username == "" || who.Password == "" {
		return who, errors.New("login needs a user and a password")
	}
	return who, nil
}

// ask reads from the terminal until ctx ends, and leaves the terminal as it was.
func (a *app) ask(ctx context.Context, read func() (string, error)) (string, error) {
	fd := int(a.stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	said := make(chan answer, 1)
	go func() {
		text, err := read()
		said <- answer{text, err}
	}()
	select {
	case got := <-said:
		return got.text, got.err
	case <-ctx.Done():
		term.Restore(fd, before)
		return "", ctx.Err()
	}
}
