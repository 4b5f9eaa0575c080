// Package cache maps what could change a step's outcome (Key) to what came out
// (Output). It knows nothing of Dockerfiles or graphs: whoever asks hashes named
// fields, and the names and values explain a miss later.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/opencontainers/go-digest"
)

// Key is everything that could change a step's outcome, hashed.
type Key [sha256.Size]byte

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// Output is what a step left behind: one layer.
type Output struct {
	DiffID  digest.Digest // of the layer
	Content digest.Digest // of the layer, times ignored (layer.Info.Content)
	// Created is when the step ran; history repeats it for as long as it hits, so
	// that a fully cached build gives the same image.
	Created time.Time
	Size    int64 // bytes of file content, for display
}

// Field is one named part of a key.
type Field struct{ Name, Value string }

// Record is a Key with its fields, kept to explain misses.
type Record struct {
	Key    Key
	Slot   string // what the step is, however its inputs change (stage and position): misses compare within a slot
	Fields []Field
	// Note is kept with the record to explain later misses, and is no part of the key. It may
	// be lost; records that a cache returns come without it, where nothing else is said.
	Note []byte
}

// Cache finds and keeps outputs. Implementations are safe for concurrent use by
// many goroutines and processes.
type Cache interface {
	// Get returns the output of a key. An output whose layer is no longer there is a miss.
	Get(ctx context.Context, key Key) (Output, bool, error)
	// Put records an output. The layer must be in the store already.
	Put(ctx context.Context, rec Record, out Output) error
	// Nearest returns the latest record of a slot.
	Nearest(ctx context.Context, slot string) (Record, bool, error)
	// Earlier returns the latest records of slots that begin with prefix, at most n, the
	// latest first. It explains misses, and may take a while.
	Earlier(ctx context.Context, prefix string, n int) ([]Record, error)
	// Note returns the note that a record was put with. It is nil and true where the record
	// is gone, and known to have been there.
	Note(ctx context.Context, key Key) ([]byte, bool, error)
}

// Entry is a record, with its note, and its output.
type Entry struct {
	Record
	Output
}

// Recaller is a Cache that tells what it has of a layer.
type Recaller interface {
	// Recall returns the entries whose output is the layer, oldest first.
	Recall(ctx context.Context, diffID digest.Digest) ([]Entry, error)
}

// Hash builds a Key from fields. The zero value is not ready; use NewHash.
type Hash struct {
	slot   string
	fields []Field
}

// NewHash begins a key. Kind keeps keys of different sorts apart; it carries a
// version, to be raised when the meaning of a step's fields changes.
func NewHash(kind, slot string) *Hash {
	return &Hash{slot: slot, fields: []Field{{"kind", kind}}}
}

// Add appends a field. Order counts.
func (h *Hash) Add(name, value string) { h.fields = append(h.fields, Field{name, value}) }

// Sum returns the record with its key. More fields may be added after.
func (h *Hash) Sum() Record {
	r := Record{Slot: h.slot, Fields: append([]Field(nil), h.fields...)}
	r.Key = sha256.Sum256(r.Encode())
	return r
}
