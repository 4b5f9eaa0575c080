package server

import (
	"net/http"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Options say how a Server behaves. The zero value works over a registry.Adopter.
type Options struct {
	// Authorize decides whether a request may be answered. It is asked before
	// anything is looked up, so a refusal says nothing about what there is. For a mount it is asked
	// a second time, with HeadBlob of the other repository: an error then means that
	// nothing is mounted. An *Error it returns is sent as it is, any other is a 500. nil: all is allowed.
	Authorize func(*Request, *http.Request) error
	// Name gives a repository the one name it has, where people may ask for it by others too:
	// "app" for "library/app". All that follows, Authorize first, sees that one. nil: as in the URL.
	Name func(repo string) string
	// Visible tells whether the catalog may name a repository to the sender of a
	// request. nil: it may.
	Visible func(repo string, r *http.Request) bool
	// Observe is told of every request when it has been answered. It is called by
	// the goroutine of the request: it must be quick.
	Observe func(*http.Request, Done)

	// Uploads is where content is kept that is still arriving: a directory for this
	// alone, made if need be. "": Incoming of a registry.Adopter. With an Adopter it must be on the
	// same file system.
	Uploads string
	// UploadIdle is after how long without a byte an unfinished upload is given
	// up. 0: 24 hours, time for a broken line to be mended and the job run again.
	UploadIdle time.Duration
	// MaxUploads bounds how many uploads are unfinished at one time, idle ones
	// too. 0: 10,000.
	MaxUploads int
	// MaxWriters bounds how many requests send content at one time. 0: 1,000.
	MaxWriters int
	// ChunkMin is told to clients as OCI-Chunk-Min-Length; nothing smaller is refused.
	// 0: 64 KiB, below which a request costs more than what it carries. Negative: nothing is told.
	ChunkMin int64

	MaxBlob     int64 // bytes of one blob. 0: no limit
	MaxManifest int64 // bytes of one manifest. 0: 4 MiB, what the spec wants to be possible at least, and the most
	MaxURL      int   // bytes of path and query. 0: 8 KiB
	MaxList     int   // entries of one page of a list. 0: 10,000

	// Stall is how long a client may take to send or take some kilobytes before its
	// connection is cut. 0: a minute. Negative: for ever.
	Stall time.Duration

	ReadOnly bool // nothing can be pushed or deleted
	// Sparse accepts manifests that refer to what is not there (the spec: a registry
	// MAY reject them).
	Sparse bool
}

// filled returns o with what is not said filled in.
func (o Options) filled() Options {
	set(&o.UploadIdle, 24*time.Hour)
	set(&o.MaxUploads, 10000)
	set(&o.MaxWriters, 1000)
	set(&o.ChunkMin, 64<<10)
	set(&o.MaxManifest, image.MaxSize)
	o.MaxManifest = min(o.MaxManifest, image.MaxSize)
	set(&o.MaxURL, 8<<10)
	set(&o.MaxList, 10000)
	set(&o.Stall, time.Minute)
	return o
}

func set[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Done is a request that has been answered.
type Done struct {
	Request  Request // Kind Ping and nothing else where it could not be parsed
	ID       string  // the request's: the client's X-Request-Id, or one made here; the answer has it too
	Status   int
	Sent     int64 // bytes of the answer's body
	Received int64 // bytes of content taken from the request's body
	Start    time.Time
	Duration time.Duration
	// Desc is the manifest or blob that was sent, stored, mounted or deleted, as far
	// as known.
	Desc registry.Descriptor
	Err  error // why the request was refused; an *Error
}
