package remote

import (
	"net/url"
	"testing"
)

// TestOwn: to whom credentials may go: to the endpoint itself, however its name is written.
func TestOwn(t *testing.T) {
	r, err := New(Options{Credentials: Anonymous{}, CertFolders: []string{}, Hosts: Hosts{"plain.example.com:5000": {HTTP: true}}})
	if err != nil {
		t.Fatal(err)
	}
	for domain, urls := range map[string]map[string]bool{
		"docker.io": {"https://registry-1.docker.io/v2/": true, "https://registry-1.docker.io:443/x": true, "https://docker.io/": false, "http://registry-1.docker.io/": false},
		"r.example.com": {"https://r.example.com/": true, "https://R.example.com:443/": true, "https://r.example.com:444/": false, "https://sub.r.example.com/": false,
			"https://r.example.com.evil.example/": false, "https://example.com/": false},
		"plain.example.com:5000": {"http://plain.example.com:5000/": true, "https://plain.example.com:5000/": false, "http://plain.example.com/": false},
	} {
		s, err := r.site(domain)
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range urls {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.origin.own(u); got != want {
				t.Errorf("%s is %s: %v", text, domain, got)
			}
		}
	}
}
