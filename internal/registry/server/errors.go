package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"nacre/internal/registry"
)

// Code is what an error is called in the body of a refusal (spec, "Error Codes").
type Code string

// The spec's codes. CodeUnknown is none of them, and only sent with a status of 500 and above.
const (
	CodeBlobUnknown         Code = "BLOB_UNKNOWN"
	CodeUploadInvalid       Code = "BLOB_UPLOAD_INVALID"
	CodeUploadUnknown       Code = "BLOB_UPLOAD_UNKNOWN"
	CodeDigestInvalid       Code = "DIGEST_INVALID"
	CodeManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     Code = "MANIFEST_INVALID"
	CodeManifestUnknown     Code = "MANIFEST_UNKNOWN"
	CodeNameInvalid         Code = "NAME_INVALID"
	CodeNameUnknown         Code = "NAME_UNKNOWN"
	CodeSizeInvalid         Code = "SIZE_INVALID"
	CodeUnauthorized        Code = "UNAUTHORIZED"
	CodeDenied              Code = "DENIED"
	CodeUnsupported         Code = "UNSUPPORTED"
	CodeTooManyRequests     Code = "TOOMANYREQUESTS"
	CodeUnknown             Code = "UNKNOWN"
)

// status is the HTTP status that goes with a code, where nothing else is said.
func (c Code) status() int {
	switch c {
	case CodeBlobUnknown, CodeUploadUnknown, CodeManifestUnknown, CodeNameUnknown, CodeManifestBlobUnknown:
		return http.StatusNotFound
	case CodeUnauthorized:
		return http.StatusUnauthorized
	case CodeDenied:
		return http.StatusForbidden
	case CodeUnsupported:
		return http.StatusMethodNotAllowed
	case CodeTooManyRequests:
		return http.StatusTooManyRequests
	case CodeUnknown:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// Error is a refusal as the client sees it. Hooks return it to say what it is to be.
type Error struct {
	Code    Code
	Message string
	Detail  any         // anything JSON can hold; nil: none
	Status  int         // 0: that of Code
	Header  http.Header // more headers of the answer: a challenge, when to retry
	Err     error       // why, for the log; clients do not see it
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes a refusal. Its message is shown to the client: it says what and why, and nothing that
// the client may not know.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Sprintf(format, args...)}
}

// TooManyRequests asks the client to come back after a while.
func TooManyRequests(after time.Duration, format string, args ...any) *Error {
	e := Errorf(CodeTooManyRequests, format, args...)
	e.Header = http.Header{"Retry-After": {strconv.Itoa(max(1, int(after.Seconds())))}}
	return e
}

func withStatus(status int, e *Error) *Error {
	e.Status = status
	return e
}

func errNoEndpoint(path string) *Error {
	return withStatus(http.StatusNotFound, Errorf(CodeUnsupported, "%.300q is not an endpoint of the registry API", path))
}

func errURLTooLong(format string, args ...any) *Error {
	return withStatus(http.StatusRequestURITooLong, Errorf(CodeUnsupported, format, args...))
}

func errTooLarge(what string, limit int64) *Error {
	return withStatus(http.StatusRequestEntityTooLarge, Errorf(CodeSizeInvalid, "%s has more than the %d bytes allowed", what, limit))
}

// refusal turns the error of a registry into what the client is told. Of errors that are
// nobody's fault but ours it learns no more than that.
func refusal(kind Kind, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	switch {
	case errors.Is(err, registry.ErrAbsent):
		e = errAbsent(kind)
	case errors.Is(err, registry.ErrDigest):
		e = Errorf(CodeDigestInvalid, "the content does not have the digest that was given")
	case errors.Is(err, registry.ErrSize):
		e = Errorf(CodeSizeInvalid, "the content does not have the size that was given")
	case errors.Is(err, registry.ErrReadOnly):
		e = Errorf(CodeUnsupported, "this registry is read only")
	case errors.Is(err, registry.ErrUnsupported):
		e = Errorf(CodeUnsupported, "this registry does not support that")
		if kind.Verb() == VerbPush {
			e.Status = http.StatusBadRequest
		}
	case errors.Is(err, registry.ErrDenied):
		e = Errorf(CodeDenied, "%v", err)
	case errors.Is(err, registry.ErrInvalid):
		e = Errorf(CodeNameInvalid, "%v", err) // nothing else was sent
		switch {
		case kind == PutManifest:
			e.Code = CodeManifestInvalid
		case kind.Verb() == VerbPush:
			e.Code = CodeUploadInvalid
		}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e = withStatus(http.StatusInsufficientStorage, Errorf(CodeUnknown, "the registry has no space left"))
	case errors.Is(err, context.Canceled):
		e = withStatus(statusClientGone, Errorf(CodeUnknown, "the request was broken off"))
	default:
		e = Errorf(CodeUnknown, "internal error")
	}
	e.Err = err
	return e
}

// statusClientGone is never seen by the client, only by logs (nginx's number for it).
const statusClientGone = 499

func errAbsent(kind Kind) *Error {
	switch kind {
	case GetManifest, HeadManifest, DeleteManifest:
		return Errorf(CodeManifestUnknown, "there is no such manifest in this repository")
	case PutManifest:
		return Errorf(CodeManifestBlobUnknown, "the manifest refers to what is not in this repository")
	case GetBlob, HeadBlob, DeleteBlob:
		return Errorf(CodeBlobUnknown, "there is no such blob in this repository")
	case ListTags, ListReferrers, Catalog:
		return Errorf(CodeNameUnknown, "there is no such repository")
	}
	return Errorf(CodeUploadUnknown, "there is no such upload")
}

// body is what the client gets: the spec's {"errors": [...]}.
func (e *Error) body() []byte {
	type entry struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	data, err := json.Marshal(map[string][]entry{"errors": {{e.Code, e.Message, e.Detail}}})
	if err != nil {
		return []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	return append(data, '\n')
}
