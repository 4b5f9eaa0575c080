package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestServePaths: what is no name is refused, whatever it is written as, and reaches neither another
// repository nor a file.
func TestServePaths(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	digest := g.img.Blobs[0].Digest.String()
	before := listing(t, g.dir)
	upload := g.ask(t, "root", "POST", "/v2/alice/app/blobs/uploads/", "").header.Get("Location")
	session := upload[strings.LastIndex(upload, "/")+1:]
	long := strings.Repeat("a", 256)
	for _, path := range []string{
		"/v2/../../etc/passwd", "/v2/%2e%2e/%2e%2e/etc/passwd", "/v2/..%2f..%2fetc/passwd", "/v2/../v2/alice/app/tags/list",
		"/v2/public/../alice/app/tags/list", "/v2/public/%2e%2e/alice/app/tags/list", "/v2/public%2f..%2falice/app/manifests/1",
		"/v2/public/./../alice/app/manifests/1", "/v2/public/..;/alice/app/manifests/1", "/v2/alice%2fapp/manifests/1", "/v2/alice%2Fapp/manifests/1",
		"/v2//alice/app/tags/list", "/v2/alice//app/tags/list", "/v2/alice/app//tags/list", "//v2/alice/app/tags/list", "/v2/alice/app/tags//list",
		"/v2/alice/app/manifests//1", "/v2/alice/app/manifests/..", "/v2/alice/app/manifests/%2e%2e%2f1", "/v2/alice/app/manifests/../../second/manifests/1",
		"/v2/alice%00/app/tags/list", "/v2/alice/app/manifests/1%00", "/v2/alice/app/manifests/%00", "/v2/alice\x00/app/tags/list",
		"/v2/alice\\app/tags/list", "/v2/alice%5capp/tags/list", "/v2/Alice/app/tags/list", "/v2/al\xc3\xafce/app/tags/list", "/v2/al%c3%afce/app/tags/list",
		"/v2/alice/%C0%AE%C0%AE/app/tags/list", "/v2/alice/app%0d%0aX-Evil:%201/tags/list", "/v2/alice/app%20/tags/list", "/v2/.alice/app/tags/list", "/v2/alice/.hidden/tags/list",
		"/v2/" + long + "/tags/list", "/v2/" + strings.Repeat("a/", 128) + "tags/list", "/v2/alice/" + strings.Repeat("x", 20_000) + "/tags/list",
		"/v2/alice/app/manifests/" + strings.Repeat("t", 129), "/v2/alice/app/blobs/sha256:../../../../etc/passwd", "/v2/alice/app/blobs/sha256:" + strings.Repeat("A", 64),
		"/v2/alice/app/blobs/" + digest + "%00", "/v2/alice/app/blobs/" + digest + "/", "/v2/alice/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "/v2/alice/app/blobs/" + long + ":" + long,
		"/v2/alice/app/blobs/uploads/..", "/v2/alice/app/blobs/uploads/%2e%2e%2f%2e%2e", "/v2/alice/app/blobs/uploads/" + session + "%00", "/v2/alice/app/blobs/uploads/" + session + "/..",
		"/v2/alice/second/blobs/uploads/" + session, "/v2/alice/app/referrers/..", "/v2/alice/app/tags/list?n=-1", "/v2/alice/app/tags/list?n=99999999999999999999", "/v2/alice/app/tags/list?%zz",
		"/v2/_catalog/../alice/app/tags/list", "/v2/serve/webhooks.db", "/v2/alice/app/../../../serve/token.key", "/metrics/../v2/alice/app/tags/list", "/livez/../etc/passwd",
	} {
		a := g.raw(t, "GET", path)
		if a.status < 400 || a.status > 499 {
			t.Errorf("%.100q: %d %v %.200s", path, a.status, a.header, a.body)
		}
		if strings.HasPrefix(path, "/v2") && !strings.Contains(a.body, `{"errors":[{"code":`) && !strings.Contains(path, "\x00") {
			t.Errorf("%.100q: no body of errors: %d %.200s", path, a.status, a.body)
		}
		if a.header.Get("X-Evil") != "" || strings.Contains(a.body, "root:") {
			t.Errorf("%.100q: %v %.200s", path, a.header, a.body)
		}
	}
	for _, query := range []string{"?mount=" + digest + "&from=../../etc", "?mount=" + digest + "&from=alice/app%00", "?mount=../x&from=alice/app", "?digest=sha256:..", "?digest-algorithm=../x"} {
		if a := g.raw(t, "POST", "/v2/alice/app/blobs/uploads/"+query); a.status != 400 || !strings.Contains(a.body, `{"errors":`) {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	for _, path := range []string{"/v2/..%2fx/manifests/1", "/v2/alice/app/manifests/..", "/v2/alice/" + long + "/manifests/1"} {
		if a := g.raw(t, "PUT", path); a.status < 400 || a.status > 499 {
			t.Errorf("PUT %.100q: %d", path, a.status)
		}
	}
	// Written another way, a name is the same name: its rules hold.
	if a := g.ask(t, "", "GET", "/v2/%61lice/app/manifests/1", ""); a.status != 401 {
		t.Errorf("%%61lice: %d", a.status)
	}
	// Whole URLs, too, are what proxies are sent.
	if a := g.raw(t, "GET", "http://elsewhere.example/v2/alice/app/tags/list"); a.status != 200 {
		t.Errorf("a whole URL: %d %s", a.status, a.body)
	}
	if a := g.ask(t, "root", "DELETE", upload, ""); a.status != 204 {
		t.Errorf("the upload: %d", a.status)
	}
	if after := listing(t, g.dir); after != before {
		t.Errorf("files are\n%s\nwere\n%s", after, before)
	}
}

// raw sends a request with a target that no client would, as root.
func (g *guarded) raw(t *testing.T, method, target string) answer {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	req, _ := http.NewRequest(method, "http://x", nil)
	req.SetBasicAuth("root", password("root"))
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", method, target, req.Header.Get("Authorization"))
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		t.Fatalf("%.100q: %v", target, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}
}
