package server

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// What the paths of a repository end in. A name may itself have such parts ("a/tags/list" is
// one): so paths are read from their end.
const (
	root        = "/v2/"
	catalogPath = "/v2/_catalog"
	tagsPart    = "/tags/list"
	uploadsPart = "/blobs/uploads"
)

// maxTagParams bounds ?tag= of one request; the spec asks for 10 at least.
const maxTagParams = 100

// Parse reads the method and URL of a request. Errors: *Error.
func Parse(method string, u *url.URL) (Request, error) {
	if !strings.HasPrefix(u.Path, root) {
		if u.Path == "/v2" {
			return byMethod(method, Request{N: -1}, Ping)
		}
		return Request{}, errNoEndpoint(u.Path)
	}
	if u.RawPath != "" && strings.Contains(strings.ToLower(u.RawPath), "%2f") {
		// Whoever guards paths before us would see another repository.
		return Request{}, Errorf(CodeNameInvalid, "a path with an encoded slash names nothing")
	}
	query, err := parseQuery(u.RawQuery)
	if err != nil {
		return Request{}, err
	}
	return parsePath(method, u.Path, query)
}

func parsePath(method, path string, query url.Values) (Request, error) {
	req := Request{N: -1}
	switch path {
	case root:
		return byMethod(method, req, Ping)
	case catalogPath, catalogPath + "/":
		return parseList(method, query, req, Catalog)
	}
	rest := path[len(root)-1:] // "/<repo>/..."
	if repo, ok := strings.CutSuffix(rest, tagsPart); ok {
		return parseList(method, query, req.in(repo), ListTags)
	}
	if repo, ok := strings.CutSuffix(strings.TrimSuffix(rest, "/"), uploadsPart); ok {
		return parseStart(method, query, req.in(repo))
	}
	front, last := cutLast(rest)
	if repo, ok := strings.CutSuffix(front, uploadsPart); ok {
		return parseUpload(method, query, req.in(repo), last)
	}
	repo, part := cutLast(front)
	switch req = req.in(repo); part {
	case "manifests":
		return parseManifest(method, query, req, last)
	case "blobs":
		return parseBlob(method, req, last)
	case "referrers":
		return parseReferrers(method, query, req, last)
	}
	return Request{}, errNoEndpoint(path)
}

// in places r in a repository, given with a slash before it.
func (r Request) in(repo string) Request {
	r.Repo = strings.TrimPrefix(repo, "/")
	return r
}

// cutLast cuts "/a/b" into "/a" and "b".
func cutLast(path string) (front, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// byMethod gives r the Kind that method asks for. GET of a Ping may be HEAD.
func byMethod(method string, r Request, allowed ...Kind) (Request, error) {
	if r.Repo == "" && allowed[0] != Ping && allowed[0] != Catalog || r.Repo != "" && !validRepo(r.Repo) {
		return Request{}, Errorf(CodeNameInvalid, "%.300q is not the name of a repository", r.Repo)
	}
	if method == http.MethodHead && allowed[0] == Ping {
		method = http.MethodGet
	}
	var names []string
	for _, k := range allowed {
		if k.Method() == method {
			r.Kind = k
			return r, nil
		}
		names = append(names, k.Method())
	}
	err := Errorf(CodeUnsupported, "%.20q is not a method of this endpoint", method)
	err.Header = http.Header{"Allow": {strings.Join(names, ", ")}}
	return Request{}, err
}

func parseManifest(method string, query url.Values, r Request, ref string) (_ Request, err error) {
	if strings.Contains(ref, ":") {
		r.Digest, err = parseDigest(ref)
	} else if r.Tag = ref; !validTag(ref) {
		code := CodeManifestInvalid
		if method == http.MethodGet || method == http.MethodHead {
			code = CodeManifestUnknown // as the conformance tests of 1.1 have it: it cannot be there
		}
		err = Errorf(code, "%.300q is neither a tag nor a digest", ref)
	}
	if err != nil {
		return Request{}, err
	}
	if r, err = byMethod(method, r, GetManifest, HeadManifest, PutManifest, DeleteManifest); err != nil {
		return Request{}, err
	}
	if r.Kind != PutManifest || r.Digest == "" {
		return r, nil
	}
	r.Tags = query["tag"]
	if len(r.Tags) > maxTagParams {
		return Request{}, errURLTooLong("more than %d tags", maxTagParams)
	}
	for _, tag := range r.Tags {
		if !validTag(tag) {
			return Request{}, Errorf(CodeManifestInvalid, "%.300q is not a tag", tag)
		}
	}
	return r, nil
}

func parseBlob(method string, r Request, ref string) (_ Request, err error) {
	if r.Digest, err = parseDigest(ref); err != nil {
		return Request{}, err
	}
	return byMethod(method, r, GetBlob, HeadBlob, DeleteBlob)
}

func parseReferrers(method string, query url.Values, r Request, ref string) (_ Request, err error) {
	if r.Digest, err = parseDigest(ref); err != nil {
		return Request{}, err
	}
	for _, t := range query["artifactType"] {
		if t != "" {
			r.Filters = append(r.Filters, t)
		}
	}
	return parseList(method, query, r, ListReferrers)
}

func parseList(method string, query url.Values, r Request, kind Kind) (_ Request, err error) {
	if s := query.Get("n"); s != "" {
		if r.N, err = strconv.Atoi(s); err != nil || r.N < 0 {
			return Request{}, withStatus(http.StatusBadRequest, Errorf(CodeUnsupported, "n=%.50q is not a number of entries", s))
		}
	}
	r.Last = query.Get("last")
	return byMethod(method, r, kind)
}

// parseStart reads a POST that begins an upload, is one, or spares one.
func parseStart(method string, query url.Values, r Request) (_ Request, err error) {
	kind, d := StartUpload, ""
	switch {
	case query.Get("mount") != "":
		kind, d, r.From = MountBlob, query.Get("mount"), query.Get("from")
	case query.Get("digest") != "":
		kind, d = PostBlob, query.Get("digest")
	}
	if d != "" {
		if r.Digest, err = parseDigest(d); err != nil {
			return Request{}, err
		}
	}
	if r.From != "" && !validRepo(r.From) {
		return Request{}, Errorf(CodeNameInvalid, "from=%.300q is not the name of a repository", r.From)
	}
	if kind == StartUpload {
		if r.Algorithm, err = parseAlgorithm(query.Get("digest-algorithm")); err != nil {
			return Request{}, err
		}
	}
	return byMethod(method, r, kind)
}

func parseAlgorithm(s string) (digest.Algorithm, error) {
	switch a := digest.Algorithm(s); a {
	case "", digest.SHA256, digest.SHA512:
		return a, nil
	}
	return "", Errorf(CodeDigestInvalid, "digest-algorithm %.50q: only sha256 and sha512 are supported", s)
}

func parseUpload(method string, query url.Values, r Request, session string) (_ Request, err error) {
	if !validSession(session) {
		return Request{}, Errorf(CodeUploadUnknown, "there is no upload %.100q", session)
	}
	r.Session = session
	if r, err = byMethod(method, r, StatUpload, AppendUpload, FinishUpload, CancelUpload); err != nil {
		return Request{}, err
	}
	if r.Kind == FinishUpload {
		r.Digest, err = parseDigest(query.Get("digest"))
	}
	if err != nil {
		return Request{}, err
	}
	return r, nil
}

func parseQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, withStatus(http.StatusBadRequest, Errorf(CodeUnsupported, "the query of the URL cannot be read"))
	}
	return q, nil
}
