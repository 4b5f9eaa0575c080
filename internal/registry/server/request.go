package server

import "github.com/opencontainers/go-digest"

// Kind tells what a Request asks for.
type Kind uint8

// The endpoints of the distribution spec ("end-1" to "end-14"), and the catalog of
// docker's registry.
const (
	Ping           Kind = iota // GET /v2/
	Catalog                    // GET /v2/_catalog
	ListTags                   // GET /v2/<repo>/tags/list
	ListReferrers              // GET /v2/<repo>/referrers/<digest>
	GetManifest                // GET /v2/<repo>/manifests/<tag or digest>
	HeadManifest               // HEAD of it
	PutManifest                // PUT of it
	DeleteManifest             // DELETE of it: by tag only the tag goes
	GetBlob                    // GET /v2/<repo>/blobs/<digest>
	HeadBlob                   // HEAD of it
	DeleteBlob                 // DELETE of it
	StartUpload                // POST /v2/<repo>/blobs/uploads/
	PostBlob                   // POST with ?digest=: the whole upload in one request
	MountBlob                  // POST with ?mount=&from=
	StatUpload                 // GET /v2/<repo>/blobs/uploads/<session>
	AppendUpload               // PATCH of it
	FinishUpload               // PUT of it with ?digest=
	CancelUpload               // DELETE of it
	kinds
)

// Verb is what a Kind needs to be allowed to do with a repository.
type Verb uint8

// Verbs, as access rules name them.
const (
	VerbPing    Verb = iota // neither: to be known at all
	VerbCatalog             // list repositories
	VerbPull
	VerbPush
	VerbDelete
)

func (v Verb) String() string {
	return [...]string{"ping", "catalog", "pull", "push", "delete"}[v]
}

// kindInfo is what is known of a Kind beside its URL.
var kindInfo = [kinds]struct {
	name   string
	method string
	verb   Verb
}{
	Ping:           {"ping", "GET", VerbPing},
	Catalog:        {"catalog", "GET", VerbCatalog},
	ListTags:       {"tags", "GET", VerbPull},
	ListReferrers:  {"referrers", "GET", VerbPull},
	GetManifest:    {"manifest.get", "GET", VerbPull},
	HeadManifest:   {"manifest.head", "HEAD", VerbPull},
	PutManifest:    {"manifest.put", "PUT", VerbPush},
	DeleteManifest: {"manifest.delete", "DELETE", VerbDelete},
	GetBlob:        {"blob.get", "GET", VerbPull},
	HeadBlob:       {"blob.head", "HEAD", VerbPull},
	DeleteBlob:     {"blob.delete", "DELETE", VerbDelete},
	StartUpload:    {"upload.start", "POST", VerbPush},
	PostBlob:       {"blob.post", "POST", VerbPush},
	MountBlob:      {"blob.mount", "POST", VerbPush},
	StatUpload:     {"upload.stat", "GET", VerbPush},
	AppendUpload:   {"upload.append", "PATCH", VerbPush},
	FinishUpload:   {"upload.finish", "PUT", VerbPush},
	CancelUpload:   {"upload.cancel", "DELETE", VerbPush},
}

// String is the name of k in logs and metrics: "manifest.get".
func (k Kind) String() string { return kindInfo[k].name }

// Method is the HTTP method of k.
func (k Kind) Method() string { return kindInfo[k].method }

// Verb is what k needs to be allowed.
func (k Kind) Verb() Verb { return kindInfo[k].verb }

// Request is one request, parsed. Fields that a Kind does not have are zero. Every field has been
// checked against the spec's grammar: none has a character with a meaning in a path
// but the slashes of Repo and From, and no component of these is "." or "..".
type Request struct {
	Kind      Kind
	Repo      string           // "library/app"
	Tag       string           // of a manifest: this or Digest
	Digest    digest.Digest    // of a manifest, a blob, a subject
	Tags      []string         // PutManifest by digest: ?tag=, as often as wanted
	From      string           // MountBlob: the other repository; "" if none was named
	Algorithm digest.Algorithm // StartUpload: ?digest-algorithm=; "" if none was named
	Session   string           // of an upload: a UUID
	Filters   []string         // ListReferrers: ?artifactType=
	N         int              // of a list: at most so many; -1: not said
	Last      string           // of a list: what comes after this
}
