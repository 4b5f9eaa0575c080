package server

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
)

// Construct is Parse backwards: the method and URL (path and query) of a request.
func Construct(r Request) (method, target string) {
	return r.Kind.Method(), r.path() + r.query()
}

func (r Request) path() string {
	repo := root + r.Repo
	switch r.Kind {
	case Ping:
		return root
	case Catalog:
		return catalogPath
	case ListTags:
		return repo + tagsPart
	case ListReferrers:
		return repo + "/referrers/" + string(r.Digest)
	case GetManifest, HeadManifest, PutManifest, DeleteManifest:
		return repo + "/manifests/" + cmp.Or(r.Tag, string(r.Digest))
	case GetBlob, HeadBlob, DeleteBlob:
		return repo + "/blobs/" + string(r.Digest)
	}
	return repo + uploadsPart + "/" + r.Session
}

func (r Request) query() string {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	switch r.Kind {
	case PutManifest:
		q["tag"] = r.Tags
	case PostBlob, FinishUpload:
		set("digest", string(r.Digest))
	case MountBlob:
		set("mount", string(r.Digest))
		set("from", r.From)
	case StartUpload:
		set("digest-algorithm", string(r.Algorithm))
	case Catalog, ListTags, ListReferrers:
		set("last", r.Last)
		if r.N >= 0 {
			set("n", strconv.Itoa(r.N))
		}
		q["artifactType"] = r.Filters
	}
	if s := q.Encode(); s != "" {
		return "?" + s
	}
	return ""
}

// location is where a client finds what r asks for, relative to the server's own root. It
// goes through proxies that know the server by another name.
func location(h http.Header, r Request) {
	h["Location"] = []string{r.path()}
}
