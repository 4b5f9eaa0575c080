package servertest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Run holds the conversation c with the server at url.
func Run(t *testing.T, c Case, url string) {
	vars := fixtures()
	for _, s := range c.steps {
		if s.push != nil {
			push(t, s, url)
			continue
		}
		if len(s.want) == 0 {
			t.Fatalf("%s: nothing is wanted", s.pos)
		}
		res, body := do(t, s, url, vars)
		check(t, s, res, body, vars)
	}
}

func expand(s string, vars map[string]string) string {
	if !strings.Contains(s, "{") {
		return s
	}
	for name, value := range vars {
		s = strings.ReplaceAll(s, "{"+name+"}", value)
	}
	return s
}

func do(t *testing.T, s step, url string, vars map[string]string) (*http.Response, string) {
	t.Helper()
	path := expand(s.path, vars)
	if _, saved := strings.CutPrefix(s.path, "{"); saved && strings.Count(path, "?") > 1 { // "{loc}?digest=..."
		i := strings.LastIndex(path, "?")
		path = path[:i] + "&" + path[i+1:]
	}
	body := expand(s.body, vars)
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(s.method, url+path, r)
	if err != nil {
		t.Fatalf("%s: %v", s.pos, err)
	}
	for _, h := range s.header {
		name, value, _ := strings.Cut(expand(h, vars), ": ")
		if name == "Transfer-Encoding" {
			req.ContentLength = -1
			continue
		}
		req.Header.Add(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", s.pos, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", s.pos, err)
	}
	return res, string(data)
}

func check(t *testing.T, s step, res *http.Response, body string, vars map[string]string) {
	t.Helper()
	for i, want := range s.want {
		kind, rest, _ := strings.Cut(want, " ")
		bad := ""
		switch {
		case i == 0:
			status, code, _ := strings.Cut(want, " ")
			bad = checkStatus(res, body, status, code)
		case kind == "save":
			name, header, _ := strings.Cut(rest, " ")
			vars[name] = res.Header.Get(header)
		case kind == "body:":
			if strings.TrimSuffix(body, "\n") != expand(rest, vars) {
				bad = "another body"
			}
		case strings.HasPrefix(want, "body has: "):
			if !strings.Contains(body, expand(strings.TrimPrefix(want, "body has: "), vars)) {
				bad = "not in the body"
			}
		case strings.HasPrefix(want, "!"):
			if len(res.Header.Values(want[1:])) > 0 {
				bad = "is there"
			}
		default:
			name, value, ok := strings.Cut(expand(want, vars), ": ")
			if got := res.Header.Get(name); !ok && got == "" || ok && got != value {
				bad = "the header is " + strconv.Quote(got)
			}
		}
		if bad != "" {
			t.Fatalf("%s: wanted %q: %s\n%s %s: %s %v\n%.500s", s.pos, expand(want, vars), bad, s.method, s.path, res.Status, res.Header, body)
		}
	}
}

// checkStatus compares the status, and of a refusal the body, which must have the spec's form.
func checkStatus(res *http.Response, body, status, code string) string {
	if strconv.Itoa(res.StatusCode) != status {
		return "another status"
	}
	if res.StatusCode < 400 || res.Request.Method == http.MethodHead {
		return ""
	}
	var e struct {
		Errors []struct {
			Code, Message string
			Detail        any
		}
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Message == "" {
		return "not an error body"
	}
	if got := e.Errors[0].Code; got != code {
		return "another code"
	}
	if res.Header.Get("Content-Type") != "application/json" {
		return "an error body of another type"
	}
	return ""
}
