package remote

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"nacre/internal/registry"
)

// Errors that callers decide on, beside those of package registry. What wraps them is an *Error
// where a registry said so, which names the registry.
var (
	ErrUnauthorized = errors.New("not logged in, or not as who may do this") // 401
	ErrDenied       = errors.New("access denied")                            // 403
	ErrBusy         = errors.New("the registry is busy")                     // 429
	ErrUnavailable  = errors.New("the registry fails")                       // 5xx
	ErrPlainHTTP    = errors.New("plain HTTP is not allowed")
	ErrCertificate  = errors.New("the certificate is not trusted")
)

// Error is what a registry answered in place of what it was asked for.
type Error struct {
	Domain string // of the registry, as in names of images
	Host   string // as it was connected to: the registry, a mirror or token server
	Op     string // "GET /v2/library/app/manifests/1"
	Status int
	Codes  []string // of the distribution spec, "MANIFEST_UNKNOWN"
	Detail string   // what the registry said, in one line
	is     error
	after  time.Duration // when to come back
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %d %s", e.Host, e.Op, e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.is != nil {
		fmt.Fprintf(&b, " (%v)", e.is)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.is }

// DomainOf tells which registry an error is about, as it is called in names of images; "": none.
func DomainOf(err error) string {
	var e *Error
	var c *connectError
	switch {
	case errors.As(err, &e):
		return e.Domain
	case errors.As(err, &c):
		return c.domain
	}
	return ""
}

// codes are the words of the distribution spec for what callers decide on.
var codes = map[string]error{
	"BLOB_UNKNOWN": registry.ErrAbsent, "MANIFEST_UNKNOWN": registry.ErrAbsent, "NAME_UNKNOWN": registry.ErrAbsent,
	"MANIFEST_BLOB_UNKNOWN": registry.ErrAbsent, "BLOB_UPLOAD_UNKNOWN": registry.ErrAbsent,
	"DIGEST_INVALID": registry.ErrDigest, "SIZE_INVALID": registry.ErrSize,
	"MANIFEST_INVALID": registry.ErrInvalid, "NAME_INVALID": registry.ErrInvalid, "TAG_INVALID": registry.ErrInvalid,
	"MANIFEST_UNVERIFIED": registry.ErrInvalid, "BLOB_UPLOAD_INVALID": registry.ErrInvalid,
	"UNSUPPORTED": registry.ErrUnsupported, "UNAUTHORIZED": ErrUnauthorized, "DENIED": ErrDenied, "TOOMANYREQUESTS": ErrBusy,
}

func statusError(status int) error {
	switch {
	case status == http.StatusUnauthorized:
		return ErrUnauthorized
	case status == http.StatusForbidden:
		return ErrDenied
	case is(status, http.StatusNotFound, http.StatusGone):
		return registry.ErrAbsent
	case is(status, http.StatusMethodNotAllowed, http.StatusNotImplemented):
		return registry.ErrUnsupported
	case status == http.StatusTooManyRequests:
		return ErrBusy
	case status >= 500:
		return ErrUnavailable
	}
	return nil
}

// passing tells whether a refusal may be none a little later. A server that does not know a method, or has
// no space left, stays so until somebody does something about it.
func passing(status int) bool {
	return is(status, http.StatusRequestTimeout, http.StatusTooManyRequests) ||
		status >= 500 && !is(status, http.StatusNotImplemented, http.StatusInsufficientStorage)
}

// maxErrorBody is how much of an error's body is looked at, maxDetail how much is told.
const (
	maxErrorBody = 64 << 10
	maxDetail    = 300
)

// refusal makes the error of an answer that is none of those hoped for, and closes it.
func (e *endpoint) refusal(op string, resp *http.Response) error {
	defer resp.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	out := &Error{Domain: e.auth.host, Host: e.name, Op: op, Status: resp.StatusCode, is: statusError(resp.StatusCode),
		after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	var body struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(data, &body) != nil {
		return out // HTML of a proxy, say: nothing to show people
	}
	var said []string
	for _, one := range body.Errors[:min(len(body.Errors), 5)] {
		out.Codes = append(out.Codes, plain(one.Code, 40))
		if means := codes[one.Code]; means != nil && !is(resp.StatusCode, 401, 403, 429) && resp.StatusCode < 500 {
			out.is = means
		}
		said = append(said, strings.Trim(plain(one.Code, 40)+": "+one.Message, ": "))
	}
	out.Detail = plain(e.auth.redact(strings.Join(said, "; ")), maxDetail)
	return out
}

// plain is s in one line of at most n bytes that a terminal shows as it is.
func plain(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "..."
	}
	return s
}

// connectError is a request without an answer.
type connectError struct {
	domain, host, op string
	err              error
	is               error // a sentinel, or nil
}

func (e *connectError) Error() string {
	if e.is != nil {
		return fmt.Sprintf("%s: %s: %v: %v", e.host, e.op, e.is, e.err)
	}
	return fmt.Sprintf("%s: %s: %v", e.host, e.op, e.err)
}

func (e *connectError) Unwrap() []error {
	if e.is != nil {
		return []error{e.is, e.err}
	}
	return []error{e.err}
}

// failure makes the error of a request without an answer. URLs do not get into it: those of uploads and
// redirects hold signatures.
func (e *endpoint) failure(op string, err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	out := &connectError{domain: e.auth.host, host: e.name, op: op, err: err}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid), errors.As(err, &verify):
		out.is = ErrCertificate
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		out.is = ErrPlainHTTP
	}
	return out
}
