package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nacre/internal/source/remote"

	"github.com/opencontainers/go-digest"
)

// get fetches url into a file and returns what is in it.
func get(t *testing.T, c remote.Client, r remote.Request) (remote.Response, string, error) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c.Pause == 0 {
		c.Pause = time.Millisecond
	}
	resp, err := c.Get(context.Background(), r, f)
	data, rerr := os.ReadFile(f.Name())
	if rerr != nil {
		t.Fatal(rerr)
	}
	return resp, string(data), err
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestGet(t *testing.T) {
	when := time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Last-Modified", when.Format(http.TimeFormat))
		io.WriteString(w, "hello")
	})
	resp, data, err := get(t, remote.Client{}, remote.Request{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	want := remote.Response{ETag: `"one"`, LastModified: when.Format(http.TimeFormat), ModTime: when, Size: 5, Digest: digest.FromString("hello")}
	if resp != want || data != "hello" {
		t.Errorf("got %+v %q, want %+v", resp, data, want)
	}
}

func TestConditional(t *testing.T) {
	var asked atomic.Int32
	for _, c := range []struct {
		name    string
		request remote.Request
		answer  http.HandlerFunc
		want    bool
	}{
		{"tag", remote.Request{ETag: `"a"`}, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") == `"a"` {
				w.WriteHeader(304)
			}
		}, true},
		{"date", remote.Request{LastModified: "Sat, 03 Feb 2024 04:05:06 GMT"}, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-Modified-Since") == "Sat, 03 Feb 2024 04:05:06 GMT" {
				w.WriteHeader(304)
			}
		}, true},
		{"server that does not compare", remote.Request{ETag: `W/"a"`}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"a"`)
			io.WriteString(w, "again")
		}, true},
		{"changed", remote.Request{ETag: `"a"`}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"b"`)
			io.WriteString(w, "new")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.request.URL = serve(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); c.answer(w, r) })
			resp, _, err := get(t, remote.Client{}, c.request)
			if err != nil {
				t.Fatal(err)
			}
			if resp.NotModified != c.want {
				t.Errorf("NotModified is %v, want %v", resp.NotModified, c.want)
			}
		})
	}
	// Not asked for, 304 is no answer.
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) })
	if _, _, err := get(t, remote.Client{}, remote.Request{URL: url}); !errors.Is(err, remote.ErrStatus) {
		t.Errorf("an unconditional request took a 304: %v", err)
	}
}

func TestRetry(t *testing.T) {
	failures := map[string]func(w http.ResponseWriter){
		"503":     func(w http.ResponseWriter) { w.WriteHeader(503) },
		"cut off": func(w http.ResponseWriter) { w.Header().Set("Content-Length", "10"); io.WriteString(w, "hell") },
		"hung up": func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"stalling": func(w http.ResponseWriter) {
			io.WriteString(w, "h")
			w.(http.Flusher).Flush()
			time.Sleep(300 * time.Millisecond)
		},
	}
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) < 3 {
					fail(w)
					return
				}
				io.WriteString(w, "hello")
			})
			_, data, err := get(t, remote.Client{Silence: 100 * time.Millisecond}, remote.Request{URL: url})
			if err != nil || data != "hello" || n.Load() != 3 {
				t.Errorf("got %q, %v after %d tries", data, err, n.Load())
			}
		})
	}
}

func TestRefused(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		is     error
		want   string
		tries  int32
	}{
		{"absent", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, remote.ErrStatus, "404 Not Found", 1},
		{"lying length", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "4000")
			io.WriteString(w, "short")
		}, remote.ErrCutOff, "5 of 4000 bytes came (tried 4 times)", 4},
		{"stalls", func(w http.ResponseWriter, r *http.Request) { time.Sleep(300 * time.Millisecond) }, remote.ErrStalled, "sends nothing for 100ms", 4},
		{"large, announced", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(long)))
			io.WriteString(w, long)
		}, remote.ErrLimit, "5000 bytes where 4096 are the limit", 1},
		{"large", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			io.WriteString(w, long)
		}, remote.ErrLimit, "more than 4096 bytes", 1},
		{"redirects for ever", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, fmt.Sprint("/x", r.URL.Path), http.StatusFound)
		}, nil, "redirected more than 10 times", 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n atomic.Int32
			url := serve(t, func(w http.ResponseWriter, r *http.Request) { n.Add(1); c.answer(w, r) })
			url = strings.Replace(url, "http://", "http://me:hidden@", 1)
			_, _, err := get(t, remote.Client{MaxSize: 4096, Silence: 100 * time.Millisecond}, remote.Request{URL: url})
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error tells the password: %v", err)
			}
			if n.Load() != c.tries {
				t.Errorf("asked %d times, want %d", n.Load(), c.tries)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { time.Sleep(200 * time.Millisecond) })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := remote.Client{}
	if _, err := c.Get(ctx, remote.Request{URL: url}, f); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
