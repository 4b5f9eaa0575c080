package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"nacre/internal/registry/server"
	"nacre/internal/serve/config"
	"nacre/internal/serve/webhook"
)

// openHooks opens the queue of webhooks; nil where there are none.
func (s *Server) openHooks(ctx context.Context) (*webhook.Sender, error) {
	if len(s.c.Webhooks) == 0 {
		return nil, nil
	}
	var all []webhook.Endpoint
	for _, w := range s.c.Webhooks {
		secret, err := secretOf(w)
		if err != nil {
			return nil, err
		}
		all = append(all, webhook.Endpoint{
			Name: w.Name, URL: w.URL, Secret: secret, Headers: w.Headers, Repositories: w.Repositories, Actions: w.Actions,
			Timeout: w.Timeout, Attempts: w.Attempts, Backoff: w.Backoff, Queue: w.Queue,
		})
	}
	return webhook.Open(ctx, filepath.Join(s.o.State, "webhooks.db"), all, webhook.Options{
		Log: s.o.Log, Now: s.o.Now,
		Delivered: func(endpoint, result string) { s.measured.hooks.Add(1, endpoint, result) },
	})
}

func secretOf(w config.Webhook) ([]byte, error) {
	if w.SecretFile == "" {
		return []byte(w.Secret), nil
	}
	data, err := os.ReadFile(w.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("webhook %s: secret-file: %w", w.Name, err)
	}
	secret := []byte(strings.TrimSpace(string(data)))
	if len(secret) == 0 {
		return nil, fmt.Errorf("webhook %s: %s is empty", w.Name, w.SecretFile)
	}
	return secret, nil
}

func (s *Server) closeHooks(ctx context.Context) error {
	if s.hooks == nil {
		return nil
	}
	return s.hooks.Close(ctx)
}

// actions are the events of what was asked for, where it was done with this status.
var actions = map[server.Kind]struct {
	action string
	status int
}{
	server.GetManifest:    {webhook.Pull, http.StatusOK},
	server.GetBlob:        {webhook.Pull, http.StatusOK},
	server.PutManifest:    {webhook.Push, http.StatusCreated},
	server.PostBlob:       {webhook.Push, http.StatusCreated},
	server.FinishUpload:   {webhook.Push, http.StatusCreated},
	server.MountBlob:      {webhook.Mount, http.StatusCreated},
	server.DeleteManifest: {webhook.Delete, http.StatusAccepted},
	server.DeleteBlob:     {webhook.Delete, http.StatusAccepted},
}

// tell keeps an event for the webhooks. Small answers are sent after it: who sees that a push
// is done may rely on it that its event is on disk.
func (s *Server) tell(r *http.Request, d server.Done) {
	a, ok := actions[d.Request.Kind]
	if s.hooks == nil || !ok || d.Status != a.status || d.Err != nil || !s.hooks.Wants(a.action, d.Request.Repo) {
		return
	}
	err := s.hooks.Add(context.WithoutCancel(r.Context()), s.event(a.action, r, d))
	if err != nil {
		s.o.Log.Error("webhook: an event could not be kept", "id", d.ID, "error", err.Error())
	}
}

func (s *Server) event(action string, r *http.Request, d server.Done) webhook.Event {
	req, v := d.Request, visitOf(r)
	if d.Desc.Digest != "" {
		req.Digest = d.Desc.Digest
	}
	t := webhook.Target{
		MediaType: d.Desc.MediaType, Size: d.Desc.Size, Length: d.Desc.Size, Digest: string(req.Digest),
		Repository: req.Repo, FromRepository: req.From, Tag: req.Tag,
	}
	part := "blobs"
	switch req.Kind {
	case server.GetManifest, server.PutManifest, server.DeleteManifest:
		part = "manifests"
	}
	if t.Digest != "" && action != webhook.Delete {
		t.URL = fmt.Sprintf("%s/v2/%s/%s/%s", s.base(r), req.Repo, part, t.Digest)
	}
	return webhook.Event{
		Timestamp: d.Start.UTC(), Action: action, Target: t, Actor: webhook.Actor{Name: v.caller.Name},
		Request: webhook.Request{ID: d.ID, Addr: v.client, Host: r.Host, Method: r.Method, UserAgent: limitText(r.UserAgent())},
		Source:  webhook.Source{Addr: s.Addr(), InstanceID: s.instance},
	}
}

// base is the URL clients know the registry by.
func (s *Server) base(r *http.Request) string {
	switch {
	case s.c.URL != "":
		return strings.TrimSuffix(s.c.URL, "/")
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// newID names this start of the server.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
