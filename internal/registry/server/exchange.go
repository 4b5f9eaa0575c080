package server

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"nacre/internal/registry"
)

// exchange is one request and its answer. It is the http.ResponseWriter of its
// answer, to count what is sent and to cut off clients that take nothing.
type exchange struct {
	w     http.ResponseWriter
	http  *http.Request
	req   Request
	id    string
	stall time.Duration
	start time.Time

	desc     registry.Descriptor
	status   int
	sent     int64
	received int64
	err      error
	broken   error // of sending the answer
	deadline bool  // one was set for writing, which must not outlive the request
}

var _ io.ReaderFrom = (*exchange)(nil)

func newExchange(w http.ResponseWriter, r *http.Request, stall time.Duration) *exchange {
	x := &exchange{w: w, http: r, req: Request{N: -1}, stall: stall, start: time.Now(), id: requestID(r)}
	h := w.Header()
	h["Docker-Distribution-Api-Version"] = apiVersion
	h["X-Request-Id"] = []string{x.id}
	return x
}

// apiVersion is shared by all answers: nobody changes it.
var apiVersion = []string{"registry/2.0"}

// maxRequestID bounds what a client may call its request in our logs.
const maxRequestID = 64

// requestID is what the client calls its request, if that can be written in a log as it is,
// else a random name.
func requestID(r *http.Request) string {
	if ids := r.Header["X-Request-Id"]; len(ids) == 1 && len(ids[0]) <= maxRequestID && validTag(ids[0]) {
		return ids[0]
	}
	const digits = "0123456789abcdef"
	var b [16]byte
	n := rand.Uint64()
	for i := range b {
		b[i] = digits[n&15]
		n >>= 4
	}
	return string(b[:])
}

func (x *exchange) ctx() context.Context { return x.http.Context() }
func (x *exchange) header() http.Header  { return x.w.Header() }

// describe says what the answer is about, in its headers and to Observe.
func (x *exchange) describe(d registry.Descriptor) {
	x.desc = d
	x.header()["Docker-Content-Digest"] = []string{string(d.Digest)}
}

// send sends an answer whole.
func (x *exchange) send(status int, body []byte) error {
	x.header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(status)
	if len(body) == 0 || x.http.Method == http.MethodHead {
		return nil
	}
	_, err := x.Write(body)
	return sending(err)
}

// refuse sends err as the spec wants refusals, unless the answer has begun.
func (x *exchange) refuse(err error) {
	e := refusal(x.req.Kind, err)
	x.err = e
	if x.status != 0 {
		return
	}
	status := e.Status
	if status == 0 {
		status = e.Code.status()
	}
	if x.http.ContentLength != 0 && x.stall > 0 {
		// What was not read of the body net/http reads, to keep the connection: not for long.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(min(x.stall, drainTime)))
	}
	h := x.header()
	for name, values := range e.Header {
		h[name] = values
	}
	delete(h, "Etag")
	delete(h, "Docker-Content-Digest")
	h["Content-Type"] = []string{"application/json"}
	_ = x.send(status, e.body()) // there is nobody left to tell
}

// end takes back what was set on the connection, which the next request uses too.
func (x *exchange) end() {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if x.deadline {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
	}
}

func (x *exchange) done() Done {
	return Done{Request: x.req, ID: x.id, Status: x.status, Sent: x.sent, Received: x.received,
		Start: x.start, Duration: time.Since(x.start), Desc: x.desc, Err: x.err}
}

// Header implements http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.w.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	if len(p) > stallBytes {
		x.expectTaken()
	}
	n, err := x.w.Write(p)
	x.sent += int64(n)
	x.failed(err)
	return n, err
}

// failed remembers why the client does not get its answer: http.ServeContent does not say.
func (x *exchange) failed(err error) {
	if err != nil && x.broken == nil {
		x.broken = err
	}
}

const (
	// sendPiece is how much is sent between two looks at the clock: what a client has to take
	// within Stall. It is small enough for slow lines, and large enough for sendfile.
	sendPiece = 256 << 10
	// stallBytes is what a client must send within Stall for its time to begin anew; one that
	// sends a byte now and then does not hold a connection for ever.
	stallBytes = 4 << 10
	// drainTime is how long a refused request may take to send the rest of itself.
	drainTime = 5 * time.Second
)

// ReadFrom lets the kernel send a file.
func (x *exchange) ReadFrom(r io.Reader) (total int64, err error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	rf, ok := x.w.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{x}, r)
	}
	left := int64(-1) // unknown
	lr, limited := r.(*io.LimitedReader)
	if limited {
		r, left = lr.R, lr.N
	}
	if b, ok := r.(*blob); ok {
		if f := b.file(); f != nil {
			defer func() { b.advance(total) }()
			r = f
		}
	}
	for left != 0 {
		piece := int64(sendPiece)
		if left > 0 {
			piece = min(piece, left)
		}
		x.expectTaken()
		n, err := rf.ReadFrom(&io.LimitedReader{R: r, N: piece})
		total += n
		x.sent += n
		if limited {
			lr.N -= n
			left -= n
		}
		if err != nil || n < piece {
			x.failed(err)
			return total, err
		}
	}
	return total, nil
}

// expectTaken gives the client another while to take what is sent next.
func (x *exchange) expectTaken() {
	if x.stall > 0 {
		x.deadline = true
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.stall))
	}
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }

// content is the body of the request, counted, of a client that keeps sending.
func (x *exchange) content() io.Reader { return &content{x: x, r: x.http.Body} }

type content struct {
	x       *exchange
	r       io.Reader
	arrived int64 // since the deadline was set
	until   time.Time
}

func (c *content) Read(p []byte) (int, error) {
	if c.x.stall > 0 && (c.until.IsZero() || c.arrived >= stallBytes) {
		c.extend(time.Now())
	}
	n, err := c.r.Read(p)
	c.arrived += int64(n)
	c.x.received += int64(n)
	switch {
	case err == io.EOF:
		// net/http watches the connection from here on, and would take the deadline for
		// the client's going away.
		if !c.until.IsZero() {
			_ = http.NewResponseController(c.x.w).SetReadDeadline(time.Time{})
		}
	case err != nil:
		err = &bodyError{err}
	}
	return n, err
}

// extend gives the client another while to go on sending, not at each read: it costs about
// as much as reading some kilobytes.
func (c *content) extend(now time.Time) {
	if c.until.Sub(now) >= c.x.stall*7/8 {
		return
	}
	c.until, c.arrived = now.Add(c.x.stall), 0
	_ = http.NewResponseController(c.x.w).SetReadDeadline(c.until)
}

// bodyError is a request's body that broke off.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "the request's body broke off: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// brokenOff turns errors of content into what the client is told, if it is still there.
func brokenOff(err error) error {
	var b *bodyError
	if !errors.As(err, &b) {
		return err
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		e := errTooLarge("the request", large.Limit)
		e.Err = err
		return e
	}
	e := Errorf(CodeSizeInvalid, "the request ended before its content did")
	e.Err = err
	return e
}

// sending marks an error of an answer that has begun: there is nobody left to be told, but Observe.
func sending(err error) error {
	if err == nil {
		return nil
	}
	return withStatus(statusClientGone, &Error{Code: CodeUnknown, Message: "the answer broke off", Err: err})
}
