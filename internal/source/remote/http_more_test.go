package remote_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/source/remote"

	"github.com/opencontainers/go-digest"
)

// waits records how long a client would have waited.
type waits struct {
	mu   sync.Mutex
	list []time.Duration
}

func (w *waits) wait(_ context.Context, d time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, d)
	return nil
}

// flaky serves body with ranges, and hangs up after some of it each time.
type flaky struct {
	body   []byte
	header map[string]string
	piece  int // of it sent at once; 0: all
	ranges bool
	mu     sync.Mutex
	asked  []string // Range of each request
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Header.Get("Range"))
	for k, v := range f.header {
		w.Header().Set(k, v)
	}
	rest := f.body
	from := 0
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && f.ranges &&
		slices.Contains([]string{f.header["ETag"], f.header["Last-Modified"]}, r.Header.Get("If-Range")) {
		rest = f.body[from:]
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(f.body)-1, len(f.body)))
		w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
	}
	if f.piece > 0 && len(rest) > f.piece {
		w.Write(rest[:f.piece])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.Write(rest)
}

func TestResume(t *testing.T) {
	body := make([]byte, 12<<20)
	rand.Read(body)
	for _, c := range []struct {
		name   string
		header map[string]string
		piece  int
		ranges bool
		asked  []string // nil: the last time from the start, and refused
	}{
		{"by tag", map[string]string{"ETag": `"a"`}, 5 << 20, true, []string{"", "bytes=5242880-", "bytes=10485760-"}},
		{"by date", map[string]string{"Last-Modified": "Sat, 03 Feb 2024 04:05:06 GMT"}, 7 << 20, true, []string{"", "bytes=7340032-"}},
		{"weak tag", map[string]string{"ETag": `W/"a"`}, 7 << 20, true, nil},
		{"no name for the content", nil, 7 << 20, true, nil},
		{"no ranges", map[string]string{"ETag": `"a"`, "Accept-Ranges": "none"}, 7 << 20, true, nil},
		{"more tries than four, each of which brings something", map[string]string{"ETag": `"a"`}, 2 << 20, true,
			[]string{"", "bytes=2097152-", "bytes=4194304-", "bytes=6291456-", "bytes=8388608-", "bytes=10485760-"}},
		{"a little each time", map[string]string{"ETag": `"a"`}, 1000, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &flaky{body: body, header: c.header, piece: c.piece, ranges: c.ranges}
			resp, data, err := get(t, remote.Client{Wait: new(waits).wait}, remote.Request{URL: serve(t, f.ServeHTTP)})
			if c.asked == nil {
				if !errors.Is(err, remote.ErrCutOff) || len(f.asked) != 4 {
					t.Errorf("got %v after %q", err, f.asked)
				}
				return
			}
			if err != nil || data != string(body) || resp.Digest != digest.FromBytes(body) || resp.Size != int64(len(body)) {
				t.Errorf("got %d bytes, %+v, %v", len(data), resp, err)
			}
			if resp.ETag != c.header["ETag"] || resp.LastModified != c.header["Last-Modified"] {
				t.Errorf("got %+v", resp)
			}
			if !slices.Equal(f.asked, c.asked) {
				t.Errorf("asked for %q, want %q", f.asked, c.asked)
			}
		})
	}
}

// TestResumeChanged: a file that is another one meanwhile is never joined to what had come.
func TestResumeChanged(t *testing.T) {
	old, next := strings.Repeat("a", 3<<20), strings.Repeat("b", 2<<20)
	for name, second := range map[string]http.HandlerFunc{
		"sent whole": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("ETag", `"2"`); io.WriteString(w, next) },
		"shorter now": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			io.WriteString(w, next)
		},
		"another place": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 7-9/10")
				w.WriteHeader(http.StatusPartialContent)
				return
			}
			io.WriteString(w, next)
		},
		"another tag": func(w http.ResponseWriter, r *http.Request) {
			var from int
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
				w.Header().Set("ETag", `"2"`)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-9999999/10000000", from))
				w.WriteHeader(http.StatusPartialContent)
				return
			}
			io.WriteString(w, next)
		},
	} {
		t.Run(name, func(t *testing.T) {
			first := true
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if !first {
					second(w, r)
					return
				}
				first = false
				w.Header().Set("ETag", `"1"`)
				w.Header().Set("Content-Length", "9999999")
				io.WriteString(w, old)
			})
			_, data, err := get(t, remote.Client{Wait: new(waits).wait}, remote.Request{URL: url})
			if err != nil || data != next {
				t.Errorf("got %d bytes, %v", len(data), err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		after  string
		waits  []time.Duration // for ever so often as it is asked
		want   string
	}{
		{"seconds", 429, "7", []time.Duration{7 * time.Second, 7 * time.Second, 7 * time.Second}, "429 Too Many Requests (tried 4 times)"},
		{"sooner than we would", 503, "1", []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, "503 Service Unavailable (tried 4 times)"},
		{"a date", 503, "Sat, 03 Feb 2024 04:06:00 GMT", []time.Duration{time.Minute, time.Minute, time.Minute}, "503 Service Unavailable (tried 4 times)"},
		{"next hour", 503, "3600", nil, "503 Service Unavailable, and wants to be asked again after 1h0m0s"},
		{"nonsense", 502, "soon", []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, "502 Bad Gateway (tried 4 times)"},
		{"not for a refusal", 403, "1", nil, "403 Forbidden"},
		{"gone", 410, "", nil, "410 Gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.Header().Set("Date", "Sat, 03 Feb 2024 04:05:00 GMT")
				w.Header().Set("Retry-After", c.after)
				w.WriteHeader(c.status)
			})
			var w waits
			_, _, err := get(t, remote.Client{Wait: w.wait, Pause: time.Second}, remote.Request{URL: url})
			if !errors.Is(err, remote.ErrStatus) || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if !slices.Equal(w.list, c.waits) || asked != len(c.waits)+1 {
				t.Errorf("asked %d times, waited %v, want %v", asked, w.list, c.waits)
			}
		})
	}
}

// TestBody: however it is sent, it is the same bytes.
func TestBody(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, "hello")
	z.Close()
	for _, c := range []struct{ name, head, body, want, fails string }{
		{"more than announced", "Content-Length: 5", "hello and more", "hello", ""},
		{"no length", "X: y", "hello", "hello", ""},
		{"chunked", "Transfer-Encoding: chunked", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello", ""},
		{"chunked, cut off", "Transfer-Encoding: chunked", "3\r\nhel\r\n2\r\nl", "", "the connection ended before the file did: after 4 bytes"},
		{"encoded", "Content-Encoding: gzip", zipped.String(), "hello", ""},
		{"encoded, cut off", "Content-Encoding: gzip", zipped.String()[:18], "", "the connection ended before the file did"},
		{"encoded, but it is not", "Content-Encoding: gzip", "hello, I am none of it", "", "content encoding gzip: gzip: invalid header"},
		{"an archive called encoded", "Content-Encoding: x-gzip", zipped.String(), zipped.String(), ""},
		{"encoded otherwise", "Content-Encoding: br", "xyz", "", `encoded as "br"`},
		{"encoded and large", "Content-Encoding: gzip", squeezed(5000), "", "larger than allowed: more than 4096 bytes"},
		{"two lengths", "Content-Length: 5\r\nContent-Length: 6", "hello!", "", "multiple Content-Length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := raw(t, "HTTP/1.1 200 OK\r\nConnection: close\r\n"+c.head+"\r\n\r\n"+c.body)
			_, data, err := get(t, remote.Client{MaxSize: 4096, Wait: new(waits).wait}, remote.Request{URL: url})
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %v, want %s", err, c.fails)
				}
			} else if err != nil || data != c.want {
				t.Errorf("got %q, %v", data, err)
			}
		})
	}
}

func squeezed(n int) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(make([]byte, n))
	z.Close()
	return b.String()
}

// raw serves answer to whoever connects, as it is.
func raw(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for n := 0; !bytes.Contains(buf[:n], []byte("\r\n\r\n")); {
					m, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					n += m
				}
				io.WriteString(c, answer)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// TestAuthorization: a secret is for the host it is given for. All names lead to two servers here, by port.
func TestAuthorization(t *testing.T) {
	for _, c := range []struct {
		name string
		path []string // URLs, each redirected to the next
		sent []bool   // whether the secret came there
	}{
		{"same", []string{"http://a.test/1", "http://a.test/2"}, []bool{true, true}},
		{"another host", []string{"http://a.test/1", "http://b.test/2"}, []bool{true, false}},
		{"a host below", []string{"http://a.test/1", "http://x.a.test/2"}, []bool{true, false}},
		{"another port", []string{"http://a.test/1", "http://a.test:81/2"}, []bool{true, false}},
		{"there and back", []string{"http://a.test/1", "http://b.test/2", "http://a.test/3"}, []bool{true, false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sent []bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != "" && got != "Bearer s3cret" {
					t.Errorf("sent %q", got)
				}
				sent = append(sent, r.Header.Get("Authorization") != "")
				if len(sent) < len(c.path) {
					http.Redirect(w, r, c.path[len(sent)], http.StatusFound)
				}
			}))
			defer server.Close()
			client := remote.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
			}}}
			if _, _, err := get(t, client, remote.Request{URL: c.path[0], Authorization: "Bearer s3cret"}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(sent, c.sent) {
				t.Errorf("sent %v, want %v", sent, c.sent)
			}
		})
	}
}

// TestRedirectRefused: not from https to what anybody on the way can change, nor to anything but http.
func TestRedirectRefused(t *testing.T) {
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Error("it was followed") })
	for target, want := range map[string]string{plain: "redirected from https to http", "file:///etc/passwd": "redirected from https to file"} {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", target)
			w.WriteHeader(http.StatusFound)
		}))
		defer s.Close()
		_, _, err := get(t, remote.Client{Transport: s.Client().Transport}, remote.Request{URL: s.URL})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to %s: %v", target, err)
		}
	}
	file := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(http.StatusFound)
	})
	if _, _, err := get(t, remote.Client{}, remote.Request{URL: file}); err == nil || !strings.Contains(err.Error(), "only http and https") {
		t.Errorf("got %v", err)
	}
}
