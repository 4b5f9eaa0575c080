package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"nacre/internal/registry"
)

// attempts is how often a request is made that fails in a way which may pass.
const attempts = 4

// pause is how long to wait after the n-th attempt.
func pause(n int) time.Duration {
	return time.Duration(n)*200*time.Millisecond + rand.N(100*time.Millisecond)
}

// emptySum is the sha256 of no bytes, which a request without a body is signed with.
const emptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// request makes a request for the object key. sum is the sha256 of its body in hex, size its length.
func (b *Bucket) request(ctx context.Context, method, key, sum string, size int64, body io.Reader) (*http.Request, error) {
	u := *b.base
	u.Path += key
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = size
	}
	// The server compares what arrives with it.
	req.Header.Set("X-Amz-Content-Sha256", sum)
	if b.o.AccessKey == "" {
		return req, nil
	}
	return req, b.signer.SignHTTP(ctx, b.credentials(), req, sum, "s3", b.o.Region, time.Now())
}

// ask makes a request without a body, more than once if need be. The answer is 200.
func (b *Bucket) ask(ctx context.Context, method, key string) (*http.Response, error) {
	for n := 1; ; n++ {
		req, err := b.request(ctx, method, key, emptySum, 0, nil)
		if err != nil {
			return nil, err
		}
		resp, err := b.o.Client.Do(req)
		again := err != nil
		if err == nil {
			again = passing(resp.StatusCode)
			err = check(resp)
		}
		if err == nil {
			return resp, nil
		}
		if !again || n == attempts || ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", b.place(key), err)
		}
		select {
		case <-time.After(b.wait(n)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// passing tells whether an answer may be another next time.
func passing(status int) bool { return status >= 500 || status == http.StatusTooManyRequests }

// place is how an object is shown.
func (b *Bucket) place(key string) string { return "s3://" + b.o.Bucket + "/" + key }

// maxError bounds what is read of the explanation of an error.
const maxError = 64 << 10

// element is what is in an element of the few that an explanation has. It is for people to read: package encoding/xml would
// cost every start of the program something.
func element(doc, name string) string {
	_, rest, _ := strings.Cut(doc, "<"+name+">")
	text, _, ok := strings.Cut(rest, "</"+name+">")
	if !ok {
		return ""
	}
	return text
}

// check makes an error of an answer that is none of 200. Errors: registry.ErrAbsent, registry.ErrDenied.
func check(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
	text := resp.Status
	if code := element(string(data), "Code"); code != "" {
		text = strings.TrimSpace(code + ": " + element(string(data), "Message"))
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", registry.ErrAbsent, text)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s", registry.ErrDenied, text)
	}
	return errors.New(text)
}
