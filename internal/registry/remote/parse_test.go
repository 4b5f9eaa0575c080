package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChallenges(t *testing.T) {
	for header, want := range map[string]string{
		`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"`: `bearer map[realm:https://auth.docker.io/token scope:repository:a/b:pull,push service:registry.docker.io]`,
		`Basic realm="a \"quoted\" one, with comma"`:                                                                `basic map[realm:a "quoted" one, with comma]`,
		`Basic realm=x, Bearer realm=https://a/t?x=y`:                                                               `basic map[realm:x] bearer map[realm:https://a/t?x]`,
		`BEARER Realm = "x" , Scope = "y"`:                                                                          `bearer map[realm:x scope:y]`,
		`Negotiate, Basic realm="x"`:                                                                                `negotiate map[] basic map[realm:x]`,
		`Bearer realm="never closed`:                                                                                `bearer map[]`,
		`Bearer realm="x",realm="y"`:                                                                                `bearer map[realm:x]`,
		`="x"`:                                                                                                      ``,
		`,,,`:                                                                                                       ``,
		``:                                                                                                          ``,
	} {
		var got []string
		for _, c := range parseChallenges([]string{header}) {
			got = append(got, fmt.Sprintf("%s %v", c.scheme, c.params))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s:\n got %s\nwant %s", header, s, want)
		}
	}
}

// print writes a challenge so that it is read again.
func print(c challenge) string {
	var params []string
	for k, v := range c.params {
		params = append(params, k+`="`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v)+`"`)
	}
	slices.Sort(params)
	return c.scheme + " " + strings.Join(params, ", ")
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service=x, Basic realm="\"", Negotiate abc==`)
	f.Add(`a="`)
	f.Fuzz(func(t *testing.T, header string) {
		all := parseChallenges([]string{header, header})
		if len(all) > maxChallenges {
			t.Fatalf("%d challenges", len(all))
		}
		for _, c := range all {
			again := parseChallenges([]string{print(c)})
			if len(again) != 1 || !reflect.DeepEqual(again[0], c) && !(len(c.params) > 0 && hasEmpty(c)) {
				t.Errorf("%q: %+v was read again as %+v", header, c, again)
			}
		}
	})
}

// hasEmpty: an empty value gives way to a later one of that name, and is not told from none.
func hasEmpty(c challenge) bool {
	for _, v := range c.params {
		if v == "" {
			return true
		}
	}
	return false
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"YW5uOng="}},"credHelpers":{"a.b":"x/y"}}`))
	f.Add([]byte(`{"auths":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		c.CredsStore = "" // no programs
		c.CredHelpers = nil
		for _, domain := range []string{"docker.io", "a.b", "localhost:5000", ""} {
			if _, err := c.get(t.Context(), domain); err != nil && strings.Contains(err.Error(), "auths") {
				t.Errorf("the error quotes: %v", err)
			}
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte("[host.\"a.b\"]\nmirrors = [\"x/y\"]\nchunk = \"1MB\""))
	f.Add([]byte("[host]\na = 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHosts(data, "/etc/nacre")
		if err != nil {
			var line int
			if n, _ := fmt.Sscanf(err.Error(), "%d:", &line); n != 1 || line < 1 {
				t.Errorf("an error without line: %v", err)
			}
			return
		}
		if err := h.check(); err != nil {
			t.Errorf("read, and wrong: %v", err)
		}
	})
}

func FuzzRanges(f *testing.F) {
	f.Add("bytes 5-9/10", "0-9", "120", `<a>; rel="next"`)
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		if start, total, ok := contentRange(a); ok && (start < 0 || total != -1 && total <= start) {
			t.Errorf("%q: %d of %d", a, start, total)
		}
		if received(b) < 0 {
			t.Errorf("%q: %d received", b, received(b))
		}
		if retryAfter(c, time.Now()) < 0 {
			t.Errorf("%q: come back in the past", c)
		}
		nextPage([]string{d})
	})
}

func TestReceived(t *testing.T) {
	for s, want := range map[string]int64{"0-9": 10, "bytes=0-9": 10, "0-0": 0, "": 0, "x": 0, "0--1": 0, "0-x": 0, "0-99999999999999999999": 0} {
		if got := received(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

// TestWindow: whatever the pieces, and wherever reading begins again, what is read is what was written.
func TestWindow(t *testing.T) {
	data := make([]byte, 200_000)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := newWindow(10_000, 3_000, 0)
		go func() {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+int(seed)*700)
				if _, err := w.Write(rest[:n]); err != nil {
					t.Error(err)
				}
				rest = rest[n:]
			}
			w.finish()
		}()
		_, dog := watch(t.Context(), time.Hour)
		at, high := int64(0), int64(0)
		for high < int64(len(data)) {
			r, err := w.from(at, -1, dog)
			if err != nil {
				t.Fatalf("seed %d: at %d, after %d: %v", seed, at, high, err)
			}
			got, err := io.ReadAll(io.LimitReader(r, 1+rnd.Int64N(9_000)))
			if err != nil || !bytes.Equal(got, data[at:at+int64(len(got))]) {
				t.Fatalf("seed %d: %d bytes at %d, %v", seed, len(got), at, err)
			}
			high = max(high, at+int64(len(got)))
			at = max(0, high-rnd.Int64N(6_000)) // of 10,000 kept, 3,000 may be ahead
			if _, err := w.from(at, -1, dog); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if n, err := r.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Fatalf("seed %d: a reader goes on that was replaced", seed)
			}
		}
		if _, err := w.from(high, -1, dog); err != nil {
			t.Fatal(err)
		}
		dog.stop()
		if !w.all(int64(len(data))) {
			t.Errorf("seed %d: not at the end", seed)
		}
		if _, err := w.from(0, -1, nil); !errors.Is(err, errGone) {
			t.Errorf("seed %d: the beginning: %v", seed, err)
		}
	}
}

// TestWindowFails: both ends hear of it.
func TestWindowFails(t *testing.T) {
	w := newWindow(100, 10, 0)
	_, dog := watch(t.Context(), time.Hour)
	defer dog.stop()
	r, err := w.from(0, -1, dog)
	if err != nil {
		t.Fatal(err)
	}
	go w.fail(io.ErrClosedPipe)
	if _, err := w.Write(make([]byte, 50)); err != io.ErrClosedPipe {
		t.Errorf("write: %v", err)
	}
	if _, err := r.Read(make([]byte, 50)); err != io.ErrClosedPipe {
		t.Errorf("read: %v", err)
	}
	w = newWindow(100, 100, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := w.await(ctx, 50); !errors.Is(err, context.Canceled) {
		t.Errorf("await: %v", err)
	}
}
