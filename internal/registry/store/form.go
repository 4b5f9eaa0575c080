package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Form is a compressed form that was made here of a layer. What is recorded of it stays for as long as
// the layer; its blob is a cache, which prune may drop and MakeForm makes again.
type Form struct {
	Layer digest.Digest // the diffID of what was compressed
	How   string        // by what means, as the caller calls it
	Desc  registry.Descriptor
	// DiffID is that of what the blob decompresses to: Layer, but for kinds that add something.
	DiffID digest.Digest
}

// FormSource makes a compressed form: it writes it to w and says the digest of what it decompresses
// to ("": the layer) and annotations for its descriptor.
type FormSource func(ctx context.Context, w *FormWriter) (diffID digest.Digest, annotations map[string]string, err error)

const formColumns = "form.layer, how, form.digest, form.media, form.size, form.diffid, form.annotations"

// Form returns what is recorded of a compressed form, whether or not its blob is there still.
// Errors: registry.ErrAbsent.
func (s *Store) Form(ctx context.Context, diffID digest.Digest, how string) (Form, error) {
	f, err := scanForm(s.db.QueryRowContext(ctx, "SELECT "+formColumns+" FROM form WHERE layer = ? AND how = ?", diffID, how))
	return f, s.absentForm(err, diffID)
}

// FormOf returns the compressed form that a blob is, there or not. Errors: registry.ErrAbsent.
func (s *Store) FormOf(ctx context.Context, blob digest.Digest) (Form, error) {
	f, err := scanForm(s.db.QueryRowContext(ctx, "SELECT "+formColumns+" FROM form WHERE digest = ? LIMIT 1", blob))
	return f, s.absentForm(err, blob)
}

func (s *Store) absentForm(err error, d digest.Digest) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("compressed form of %s: %w", d, registry.ErrAbsent)
	}
	return s.fail(err)
}

func scanForm(r interface{ Scan(...any) error }) (f Form, err error) {
	var notes string
	err = r.Scan((*string)(&f.Layer), &f.How, (*string)(&f.Desc.Digest), &f.Desc.MediaType, &f.Desc.Size, (*string)(&f.DiffID), &notes)
	if err == nil && notes != "" {
		err = json.Unmarshal([]byte(notes), &f.Desc.Annotations)
	}
	return f, err
}

// MakeForm returns a compressed form of a layer with its blob, which l holds from then on. Where there is none, source makes
// it while all others who want the same wait; made tells whether it did.
// Errors: registry.ErrAbsent (there is no such layer), those of source.
func (s *Store) MakeForm(ctx context.Context, l *Lease, diffID digest.Digest, how, mediaType string, source FormSource) (f Form, made bool, err error) {
	if err := l.Layer(ctx, diffID); err != nil {
		return Form{}, false, err
	}
	unlock, err := s.Lock(ctx, "form-"+diffID.Encoded()+"-"+how)
	if err != nil {
		return Form{}, false, err
	}
	defer unlock()
	if f, err = s.Form(ctx, diffID, how); err == nil {
		ok, err := s.holdBlob(ctx, l, f.Desc)
		if err != nil || ok {
			return f, false, err
		}
	} else if !errors.Is(err, registry.ErrAbsent) {
		return Form{}, false, err
	}
	f = Form{Layer: diffID, How: how, DiffID: diffID, Desc: registry.Descriptor{MediaType: mediaType}}
	return f, true, s.makeForm(ctx, l, &f, source)
}

func (s *Store) makeForm(ctx context.Context, l *Lease, f *Form, source FormSource) error {
	tmp, err := s.tempName("form")
	if err != nil {
		return err
	}
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return s.fail(err)
	}
	w := &FormWriter{f: out, hash: digest.SHA256.Digester().Hash()}
	id, notes, err := source(ctx, w)
	if err == nil {
		err = w.err
	}
	if err == nil {
		err = ctx.Err()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		os.Remove(tmp)
		return s.fail(err)
	}
	s.point("form written")
	if id != "" {
		f.DiffID = id
	}
	f.Desc.Digest, f.Desc.Size, f.Desc.Annotations = w.Digest(), w.Size(), notes
	return s.keepForm(ctx, l, tmp, *f)
}

// keepForm moves a finished form to its place and records it.
func (s *Store) keepForm(ctx context.Context, l *Lease, tmp string, f Form) error {
	var of digest.Digest
	if f.DiffID == f.Layer {
		of = f.Layer // so that the layer can be made again from it
	}
	var notes []byte
	if len(f.Desc.Annotations) > 0 {
		var err error
		if notes, err = json.Marshal(f.Desc.Annotations); err != nil {
			return err
		}
	}
	return s.keep(ctx, l, tmp, f.Desc, of, s.boot, func(tx querier) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO form (layer, how, digest, media, size, diffid, annotations)
			VALUES (?, ?, ?, ?, ?, ?, ?)`, f.Layer, f.How, f.Desc.Digest, f.Desc.MediaType, f.Desc.Size, f.DiffID, string(notes))
		return err
	})
}

// formPiece is what one system call writes: for small pieces the kernel has memory at hand that was used
// before (see pieceSize in package layer).
const formPiece = 32 << 10

// FormWriter hashes and counts what goes to a file. When the file takes no more it goes on
// with that, for those who write elsewhere, too: each Write returns the file's error then.
type FormWriter struct {
	f    *os.File
	hash hash.Hash
	size int64
	err  error
}

func (w *FormWriter) Write(p []byte) (int, error) {
	w.hash.Write(p)
	w.size += int64(len(p))
	for rest := p; len(rest) > 0 && w.err == nil; {
		var n int
		n, w.err = w.f.Write(rest[:min(len(rest), formPiece)])
		rest = rest[n:]
	}
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// Digest is that of all that was written.
func (w *FormWriter) Digest() digest.Digest { return digest.NewDigest(digest.SHA256, w.hash) }

// Size is the number of bytes that were written.
func (w *FormWriter) Size() int64 { return w.size }

// CompressedAs returns the compressed form that a layer came as. Errors: registry.ErrAbsent: it was made here, or came
// as it is.
func (s *Store) CompressedAs(ctx context.Context, diffID digest.Digest) (registry.Descriptor, error) {
	list, err := all(ctx, s.db, func(r *sql.Rows) (registry.Descriptor, error) { return scanDescriptor(r) },
		"SELECT digest, media, size FROM blob WHERE layer = ? AND digest NOT IN (SELECT digest FROM form) ORDER BY digest", diffID)
	if err != nil {
		return registry.Descriptor{}, s.fail(err)
	}
	for _, d := range list {
		if image.Compression(d.MediaType) == "" {
			continue
		}
		if _, err := s.ensureBlob(ctx, d.Digest); !errors.Is(err, registry.ErrAbsent) {
			return d, err
		}
	}
	return registry.Descriptor{}, s.absentForm(sql.ErrNoRows, diffID)
}
