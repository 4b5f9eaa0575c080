package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// errNoHelper: a credential helper that is not installed.
var errNoHelper = errors.New("not installed")

// helper is a program docker-credential-NAME, which keeps credentials
// (github.com/docker/docker-credential-helpers).
type helper string

const (
	// helperWait bounds how long it may take; some ask people.
	helperWait = 2 * time.Minute
	// identity is the user name of what is an identity token.
	identity = "<token>"
)

// secret is what helpers say and are told.
type secret struct {
	ServerURL string `json:"ServerURL,omitempty"`
	Username  string `json:"Username"`
	Secret    string `json:"Secret"`
}

// get asks for the credential of a registry; the zero one: it has none.
func (h helper) get(ctx context.Context, server string) (Credential, error) {
	out, err := h.run(ctx, "get", server)
	if err != nil {
		return Credential{}, err
	}
	var s secret
	if len(bytes.TrimSpace(out)) == 0 {
		return Credential{}, nil
	}
	if json.Unmarshal(out, &s) != nil {
		return Credential{}, fmt.Errorf("%s get: the answer is not one", h.program())
	}
	if s.Username == identity {
		return Credential{IdentityToken: s.Secret}, nil
	}
	return Credential{Username: s.Username, Password: s.Secret}, nil
}

func (h helper) store(ctx context.Context, server string, c Credential) error {
	data, err := json.Marshal(secret{server, c.Username, c.Password})
	if err == nil {
		_, err = h.run(ctx, "store", string(data))
	}
	return err
}

func (h helper) erase(ctx context.Context, server string) error {
	_, err := h.run(ctx, "erase", server)
	return err
}

func (h helper) program() string { return "docker-credential-" + plain(string(h), 100) }

// run has the program do one thing. Its output is nil where it says that it has no such
// credential.
func (h helper) run(ctx context.Context, verb, input string) ([]byte, error) {
	if h == "" || strings.ContainsAny(string(h), `/\`) {
		return nil, fmt.Errorf("credential helper %q: not a name", plain(string(h), 100))
	}
	path, err := exec.LookPath(h.program())
	if err != nil {
		return nil, fmt.Errorf("credential helper %s: %w", h.program(), errNoHelper)
	}
	ctx, cancel := context.WithTimeout(ctx, helperWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, verb)
	cmd.Stdin = strings.NewReader(input)
	cmd.WaitDelay = time.Second // for what it started and left behind with our pipes
	out := &atMost{left: maxToken}
	said := &atMost{left: maxErrorBody}
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String() + " " + said.String())
		if strings.Contains(text, "credentials not found") {
			return nil, nil
		}
		if verb == "store" { // it was told the secret, and may repeat it
			text = ""
		}
		return nil, fmt.Errorf("%s %s: %w: %s", h.program(), verb, err, plain(text, maxDetail))
	}
	return out.Bytes(), nil
}

// atMost keeps the beginning of what is written.
type atMost struct {
	bytes.Buffer
	left int
}

func (a *atMost) Write(p []byte) (int, error) {
	n := min(len(p), a.left)
	a.left -= n
	a.Buffer.Write(p[:n])
	return len(p), nil
}
