package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"nacre/internal/registry/server"
	"nacre/internal/registry/server/servertest"

	"github.com/rogpeppe/go-internal/testscript"
)

// serveRegistry is "registry VAR [tls | USER:PASSWORD [bearer]]": an empty registry, for those who are
// that user where one is named, by password or by tokens; with tls behind a certificate that
// nobody trusts. VAR becomes its host:port. What it is
// asked is written to VAR.log.
func serveRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 3 {
		ts.Fatalf("usage: registry VAR [tls | USER:PASSWORD [bearer]]")
	}
	s, err := server.New(servertest.NewStrict(), server.Options{Uploads: filepath.Join(ts.Getenv("WORK"), args[0]+".uploads")})
	ts.Check(err)
	asked, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	door := &door{Handler: s, log: asked}
	tls := len(args) > 1 && args[1] == "tls"
	if len(args) > 1 && !tls {
		door.user, door.password, _ = strings.Cut(args[1], ":")
		door.bearer = len(args) > 2
	}
	h := httptest.NewUnstartedServer(door)
	if tls {
		h.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who refuse the certificate
		h.StartTLS()
	} else {
		h.Start()
	}
	ts.Defer(func() { h.Close(); s.Close(); asked.Close() })
	ts.Setenv(args[0], h.Listener.Addr().String())
}

// door lets one user in.
type door struct {
	http.Handler
	user, password string
	bearer         bool
	mu             sync.Mutex
	log            *os.File
}

const doorToken = "a-t0ken-of-the-door"

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := &statusWriter{ResponseWriter: w, code: 200}
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		fmt.Fprintf(d.log, "%s %s %d auth=%s scope=%s\n", r.Method, r.URL.Path, status.code, scheme, strings.Join(r.URL.Query()["scope"], ","))
	}()
	user, password, basic := r.BasicAuth()
	known := basic && user == d.user && password == d.password
	switch {
	case d.user == "":
	case r.URL.Path == "/token":
		if !known {
			http.Error(status, "who is that", http.StatusUnauthorized)
			return
		}
		json.NewEncoder(status).Encode(map[string]any{"token": doorToken, "expires_in": 300})
		return
	case d.bearer && r.Header.Get("Authorization") != "Bearer "+doorToken:
		status.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="door"`, r.Host))
		status.WriteHeader(http.StatusUnauthorized)
		return
	case !d.bearer && !known:
		status.Header().Set("WWW-Authenticate", `Basic realm="door"`)
		status.WriteHeader(http.StatusUnauthorized)
		return
	}
	d.Handler.ServeHTTP(status, r)
}
