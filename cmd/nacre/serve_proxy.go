package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/remote"
	"nacre/internal/registry/server"
	"nacre/internal/registry/through"
	"nacre/internal/serve/config"
)

// proxied puts the other registries that c names behind h; done ends what that begins.
func proxied(c config.Config, h *hosted.Registry, log *slog.Logger) (r registry.Registry, done func(), err error) {
	if len(c.Proxy) == 0 {
		return h, func() {}, nil
	}
	var all []through.Upstream
	for _, p := range c.Proxy {
		source, err := upstream(p, log)
		if err != nil {
			return nil, nil, fmt.Errorf("proxy %s: %w", p.Prefix, err)
		}
		all = append(all, through.Upstream{Prefix: p.Prefix, Local: storedPrefix(p.Prefix), Source: source, Repo: p.Repository, TTL: p.TTL})
	}
	t, err := through.New(h, all, through.Options{Failed: upstreamFailed, Warn: func(repo string, err error) {
		log.Warn("proxy", "repository", repo, "error", err.Error())
	}})
	if err != nil {
		return nil, nil, err
	}
	return t, func() {
		if err := t.Close(); err != nil {
			log.Error("proxy", "error", err.Error())
		}
	}, nil
}

// upstreamFailed is what clients are told where another registry fails.
func upstreamFailed(err error) error {
	e := server.Errorf(server.CodeUnknown, "the registry behind this one does not answer")
	e.Status, e.Err = http.StatusBadGateway, err
	var netErr net.Error
	switch {
	case errors.Is(err, remote.ErrUnauthorized), errors.Is(err, remote.ErrDenied):
		// Many say so of what is not there, too.
		return fmt.Errorf("%w: %w", registry.ErrAbsent, err)
	case errors.Is(err, remote.ErrBusy):
		e = server.TooManyRequests(time.Minute, "the registry behind this one is busy")
		e.Err = err
		return e
	case errors.Is(err, remote.ErrUnavailable), errors.Is(err, remote.ErrCertificate), errors.Is(err, remote.ErrPlainHTTP), errors.As(err, &netErr):
		return e
	}
	return err
}

// storedPrefix is what a prefix is in the store, where names that begin with docker.io are those
// without a domain: the registry's own.
func storedPrefix(prefix string) string {
	for _, domain := range []string{"docker.io", "index.docker.io"} {
		if rest, ok := strings.CutPrefix(prefix, domain); ok && (rest == "" || rest[0] == '/') {
			return "registry-1." + prefix
		}
	}
	return prefix
}

// upstream is a client of the registry that p names, as who p says.
func upstream(p config.Proxy, log *slog.Logger) (registry.Reader, error) {
	u, err := url.Parse(p.Remote)
	if err != nil {
		return nil, err
	}
	hosts, err := remote.DefaultHosts()
	if err != nil {
		return nil, err
	}
	domain := remote.Domain(p.Remote)
	if u.Scheme == "http" {
		h := hosts[domain]
		h.HTTP = true
		if hosts == nil {
			hosts = remote.Hosts{}
		}
		hosts[domain] = h
	}
	who := proxyCredentials{p}
	if _, err := who.Get(context.Background(), domain); err != nil {
		return nil, err
	}
	client, err := remote.New(remote.Options{Hosts: hosts, Credentials: who, Warn: func(text string) { log.Warn("proxy", "prefix", p.Prefix, "warning", text) }})
	if err != nil {
		return nil, err
	}
	return client.Host(domain), nil
}

// proxyCredentials are those of the configuration. Who runs the server may be logged in
// elsewhere as somebody else: that is not for its clients.
type proxyCredentials struct{ p config.Proxy }

// Get implements remote.Credentials. The file is read anew each time, as passwords change.
func (c proxyCredentials) Get(context.Context, string) (remote.Credential, error) {
	if c.p.PasswordFile == "" {
		return remote.Credential{}, nil
	}
	data, err := os.ReadFile(c.p.PasswordFile)
	if err != nil {
		return remote.Credential{}, fmt.Errorf("password-file: %w", err)
	}
	return remote.Credential{Username: c.p.Username, Password: strings.TrimSpace(string(data))}, nil
}
