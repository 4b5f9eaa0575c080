package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/cache"
	"nacre/internal/cache/note"
	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
	"nacre/internal/source/remote"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// fetched is the root of a Fetch: one layer. Steps that use it depend on what is in it, not
// on where or when it was fetched.
func (s *solver) fetched(ctx context.Context, st *graph.Step, op *graph.Fetch) (*root, error) {
	done := s.begin(s.eventStep(st))
	f := &fetcher{Builder: s.Builder, o: s.o, hold: s.layers.Hold, lease: s.lease, id: s.eventStep(st).ID}
	out, cached, err := f.fetch(ctx, op)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, cause)) {
			err = cause // another step failed first
		} else {
			err = positioned(st, fmt.Errorf("%s: %w", op, err))
		}
	}
	if err := done(f.outcome(cached, out), err); err != nil {
		return nil, err
	}
	h := cache.NewHash("fetched/1", "")
	h.Add("content", out.Content.String())
	return &root{key: h.Sum().Key, layers: []digest.Digest{out.DiffID}, out: out, origin: note.Input{Step: op.String(), ID: out.Content.String()}}, nil
}

// outcome is how a fetch ended.
func (f *fetcher) outcome(cached bool, out cache.Output) event.Done {
	d := event.Done{Cached: cached, Cache: event.CacheHit, Size: out.Size}
	if !cached {
		d.Cache = event.CacheMiss
	}
	switch {
	case cached || !f.o.Explain:
	case f.o.NoCache:
		d.Why = "--no-cache"
	default:
		d.Why = "no earlier record of it as it is there now"
	}
	return d
}

// fetcher gets things from elsewhere into layers of the store, and knows those it got
// before by records in the cache.
type fetcher struct {
	Builder
	o     Options
	lease *store.Lease // holds what was fetched for as long as the build lasts
	hold  func(ctx context.Context, diffIDs ...digest.Digest) error
	id    int // of the step that is told of progress
	// hidden is what of the secrets it used nobody may read.
	hidden []string
}

func (f *fetcher) fetch(ctx context.Context, op *graph.Fetch) (out cache.Output, cached bool, err error) {
	if op.Git != nil {
		return f.git(ctx, op.Git)
	}
	return f.http(ctx, op.HTTP)
}

// known returns what an earlier build got, if it is still there.
func (f *fetcher) known(ctx context.Context, key cache.Key) (cache.Output, bool, error) {
	out, ok, err := f.Cache.Get(ctx, key)
	if err != nil || !ok {
		return out, false, err
	}
	err = f.hold(ctx, out.DiffID)
	if errors.Is(err, registry.ErrAbsent) {
		return cache.Output{}, false, nil
	}
	return out, err == nil, err
}

// http gets a file. Its record tells what the server said of it, so that it can be asked
// whether that is still so; a second one its checksum, which makes asking unnecessary.
func (f *fetcher) http(ctx context.Context, op *graph.HTTP) (out cache.Output, cached bool, err error) {
	req := remote.Request{URL: op.URL, Progress: f.progress("")}
	switch {
	case f.o.NoCache:
	case op.Checksum != "":
		if out, ok, err := f.known(ctx, checksumRecord(op.Name, op.Checksum).Key); ok || err != nil {
			return out, ok, err
		}
	default:
		rec, ok, err := f.Cache.Nearest(ctx, urlSlot(op))
		if err != nil {
			return out, false, err
		}
		if ok {
			if out, ok, err = f.known(ctx, rec.Key); err != nil {
				return out, false, err
			}
		}
		if ok {
			req.ETag, req.LastModified = field(rec, "etag"), field(rec, "last-modified")
		}
	}
	if req.Authorization, err = f.httpAuth(op.URL); err != nil {
		return out, false, err
	}
	dir, remove, err := f.Store.TempDir("fetch")
	if err != nil {
		return out, false, err
	}
	defer remove()
	file, err := os.Create(filepath.Join(dir, "body"))
	if err != nil {
		return out, false, err
	}
	defer file.Close()
	resp, err := f.HTTP.Get(ctx, req, file)
	if err != nil {
		return out, false, err
	}
	if resp.NotModified {
		return out, true, nil
	}
	if err := verify(file, resp.Digest, op.Checksum); err != nil {
		return out, false, err
	}
	if out, err = f.keepFile(ctx, op.Name, file, resp); err != nil {
		return out, false, err
	}
	return out, false, f.remember(ctx, op, resp, out)
}

// remember records what came, under all that it can be found by again.
func (f *fetcher) remember(ctx context.Context, op *graph.HTTP, resp remote.Response, out cache.Output) error {
	err := f.Cache.Put(ctx, checksumRecord(op.Name, resp.Digest), out)
	if op.Checksum != "" && op.Checksum != resp.Digest {
		err = errors.Join(err, f.Cache.Put(ctx, checksumRecord(op.Name, op.Checksum), out))
	}
	if resp.ETag == "" && resp.LastModified == "" || f.has(resp.ETag) || f.has(resp.LastModified) {
		return err
	}
	h := cache.NewHash("http/1", urlSlot(op))
	h.Add("url", graph.Redact(op.URL))
	h.Add("name", op.Name)
	h.Add("etag", resp.ETag)
	h.Add("last-modified", resp.LastModified)
	h.Add("content", resp.Digest.String())
	return errors.Join(err, f.Cache.Put(ctx, h.Sum(), out))
}

// urlSlot is where the latest record of a URL is. It has the URL hashed: there may be a password in it.
func urlSlot(op *graph.HTTP) string {
	return "http\x00" + digest.FromString(op.URL+"\x00"+op.Name).Encoded()
}

func checksumRecord(name string, d digest.Digest) cache.Record {
	h := cache.NewHash("http-checksum/1", "http-checksum")
	h.Add("name", name)
	h.Add("checksum", d.String())
	return h.Sum()
}

func field(r cache.Record, name string) string {
	for _, f := range r.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// verify compares the content with a checksum, which may be of another kind than the digest we have.
func verify(file *os.File, have, want digest.Digest) error {
	if want == "" || have == want {
		return nil
	}
	if want.Algorithm() != have.Algorithm() {
		v := want.Verifier()
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(v, file); err != nil {
			return err
		}
		if v.Verified() {
			return nil
		}
	}
	return fmt.Errorf("%w: it has %s, and %s is expected", ErrChecksum, have, want)
}

// ErrChecksum is wrapped by errors about something fetched that is not what its checksum says.
var ErrChecksum = errors.New("checksum mismatch")

// keepFile makes a layer of the one file.
func (f *fetcher) keepFile(ctx context.Context, name string, file *os.File, resp remote.Response) (cache.Output, error) {
	entry := layer.Entry{Name: name, Mode: unix.S_IFREG | 0o600, Size: resp.Size, ModTime: resp.ModTime}
	if resp.ModTime.IsZero() {
		entry.ModTime = time.Unix(0, 0)
	}
	content := layer.File{Entry: entry, Digest: resp.Digest, Open: func() (io.ReadCloser, error) { return os.Open(file.Name()) }}
	return f.keep(ctx, func(dir string) (layer.Info, error) {
		return layer.Write(ctx, dir, func(yield func(layer.File, error) bool) { yield(content, nil) })
	})
}

func (f *fetcher) keep(ctx context.Context, make func(dir string) (layer.Info, error)) (cache.Output, error) {
	info, err := f.Store.MakeLayer(ctx, f.lease, make)
	return cache.Output{DiffID: info.DiffID, Content: info.Content, Created: f.Clock().UTC(), Size: info.FileBytes}, err
}

// progress tells how far a fetch got, ten times a second at most.
func (f *fetcher) progress(item string) func(current, total int64) {
	var last time.Time
	return func(current, total int64) {
		now := f.Clock()
		if now.Sub(last) < 100*time.Millisecond && current != total {
			return
		}
		last = now
		f.Sink(event.Progress{ID: f.id, Time: now, Item: item, Current: current, Total: total, Unit: "B"})
	}
}
