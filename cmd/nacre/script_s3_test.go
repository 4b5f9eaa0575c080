package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"
)

// serveS3 is "s3 VAR BUCKET": an S3 server with an empty bucket. VAR becomes its URL; what it is asked is written to VAR.log.
func serveS3(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: s3 VAR BUCKET")
	}
	backend := s3mem.New()
	ts.Check(backend.CreateBucket(args[1]))
	asked, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	server := gofakes3.New(backend).Server()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(asked, r.Method, r.URL.Path, r.Header.Get("Authorization"))
		server.ServeHTTP(w, r)
	}))
	ts.Defer(func() { h.Close(); asked.Close() })
	ts.Setenv(args[0], h.URL)
}
