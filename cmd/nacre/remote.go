package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"nacre/internal/registry/remote"
)

// registries is the client of the registries of the world, once it is asked for.
type registries struct {
	mu     sync.Mutex
	client *remote.Registry
}

// remote returns it. Commands that need none read no hosts file.
func (a *app) remote(context.Context) (*remote.Registry, error) {
	a.registries.mu.Lock()
	defer a.registries.mu.Unlock()
	if a.registries.client != nil {
		return a.registries.client, nil
	}
	o, err := a.remoteOptions()
	if err != nil {
		return nil, err
	}
	a.registries.client, err = remote.New(o)
	return a.registries.client, err
}

func (a *app) remoteOptions() (remote.Options, error) {
	hosts, err := remote.DefaultHosts()
	return remote.Options{Hosts: hosts, UserAgent: "nacre/" + version, Warn: func(s string) { a.warnf("%s", s) }}, err
}

// registryHint is what to do about an error of a registry.
func registryHint(err error) string {
	domain := remote.DomainOf(err)
	switch {
	case domain == "":
		return ""
	case errors.Is(err, remote.ErrUnauthorized), errors.Is(err, remote.ErrDenied):
		return fmt.Sprintf("check the name, and who you are there: nacre login %s", domain)
	case errors.Is(err, remote.ErrPlainHTTP):
		return fmt.Sprintf("[host.%q] with http = true in registries.toml allows plain HTTP", domain)
	case errors.Is(err, remote.ErrCertificate):
		return fmt.Sprintf("[host.%q] in registries.toml takes ca = [\"FILE\"], or insecure = true", domain)
	}
	return ""
}
