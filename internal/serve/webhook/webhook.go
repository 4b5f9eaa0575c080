// Package webhook tells HTTP endpoints what happened in a registry. Events are kept in a
// database file until each endpoint has taken them or has failed to for long: they survive the end
// of the process, whatever ended it, and are delivered at least once, in order for each endpoint.
// Endpoints do not wait for one another.
//
// What is sent is the envelope of docker's registry notifications
// (https://distribution.github.io/distribution/about/notifications/), one event at a time.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Actions of events.
const (
	Push   = "push"
	Pull   = "pull"
	Delete = "delete"
	Mount  = "mount"
)

// MediaType is the Content-Type of what is sent.
const MediaType = "application/vnd.docker.distribution.events.v2+json"

// SignatureHeader has "sha256=" and the HMAC of the body under the endpoint's secret, in
// hexadecimal.
const SignatureHeader = "X-Nacre-Signature-256"

// Event is something that happened.
type Event struct {
	ID        string    `json:"id"`
	Timestamp time.Time `json:"timestamp"`
	Action    string    `json:"action"`
	Target    Target    `json:"target"`
	Request   Request   `json:"request"`
	Actor     Actor     `json:"actor"`
	Source    Source    `json:"source"`
}

// Target is what it happened to: a manifest or a blob.
type Target struct {
	MediaType      string `json:"mediaType,omitempty"`
	Size           int64  `json:"size,omitempty"`
	Digest         string `json:"digest,omitempty"`
	Length         int64  `json:"length,omitempty"` // the same as Size: older consumers read it
	Repository     string `json:"repository"`
	FromRepository string `json:"fromRepository,omitempty"`
	URL            string `json:"url,omitempty"`
	Tag            string `json:"tag,omitempty"`
}

// Request is what made it happen.
type Request struct {
	ID        string `json:"id"`
	Addr      string `json:"addr,omitempty"`
	Host      string `json:"host,omitempty"`
	Method    string `json:"method"`
	UserAgent string `json:"useragent,omitempty"`
}

// Actor is who made it happen; without a name nobody known.
type Actor struct {
	Name string `json:"name,omitempty"`
}

// Source is the server it happened on.
type Source struct {
	Addr       string `json:"addr,omitempty"`
	InstanceID string `json:"instanceID,omitempty"`
}

type envelope struct {
	Events []Event `json:"events"`
}

// Sign is the value of SignatureHeader.
func Sign(secret, body []byte) string {
	h := hmac.New(sha256.New, secret)
	h.Write(body)
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}
