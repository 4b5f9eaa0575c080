package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Options of Open. The zero value is right for every command.
type Options struct {
	// ReadOnly: nothing is written, not even on first use. What would write
	// returns registry.ErrReadOnly.
	ReadOnly bool
	// Salvage lets Open set a database aside that cannot be read and make a new one of
	// what is left of it and of the files. It is for repairs: Check is to follow.
	Salvage bool
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
}

// Store is an open store. Its methods may be called concurrently; other
// processes may use the same root at the same time.
type Store struct {
	root string
	o    Options
	db   *sql.DB
	boot string // this boot of the machine, see durable.go

	owner owner // of what this process leaves in tmp/ and of its leases
	bin   bin   // what was thrown away and is still to be unlinked
	group group // of changes that are made together

	versions versions

	mu      sync.Mutex
	layers  map[digest.Digest]*opened // layers open for reading
	stale   []*opened                 // such that were dropped since
	whole   map[digest.Digest]bool    // layers verified since they may have been torn
	hits    map[string]time.Time      // cache records used, to be noted by Close
	uses    map[string]bool           // what of the cache was used or made: layers by their hex digits, directories by name
	uploads map[digest.Digest]bool    // layers this process is receiving
	wrote   bool                      // this process added content: Close may sync
	closed  bool

	partialOnce sync.Once     // of boundPartials
	stall       time.Duration // uploadStall, but in tests

	testOnlyDisk  func() (size, free int64)
	testOnlyPoint func(what string) // called wherever dying would leave something half done

	ownMu sync.Mutex
	own   *Lease // of uploads that no caller's lease covers
}

// The folders of a store.
var folders = []string{"blobs/sha256", "blobs/sha512", "layers", "trees", "contexts", "containers", "volumes", "locks", "owners", "partial", "uploads", "tmp"}

// layoutFile makes blobs/ recognizable as that of an OCI image layout (image spec, image-layout.md).
const layoutFile = `{"imageLayoutVersion":"1.0.0"}`

// DefaultRoot is where the store of the current user is: $NACRE_ROOT, else
// /var/lib/nacre for root, else nacre in $XDG_DATA_HOME or ~/.local/share.
func DefaultRoot() string {
	if dir := os.Getenv("NACRE_ROOT"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/nacre"
	}
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) { // the XDG specification has relative ones ignored
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/"
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "nacre")
}

// Open opens the store at root, making it on first use. Leftovers of processes
// that died are removed in the background for as long as the store is open.
//
// Errors: ErrVersion, ErrDamaged, fs.ErrPermission, unix.ENOSPC;
// fs.ErrNotExist where o.ReadOnly and there is none.
func Open(ctx context.Context, root string, o Options) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Store{
		root: root, o: o, boot: bootID(), stall: uploadStall,
		layers: map[digest.Digest]*opened{}, whole: map[digest.Digest]bool{}, hits: map[string]time.Time{}, uses: map[string]bool{}, uploads: map[digest.Digest]bool{},
	}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", s.fail(err))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	_, err := os.Stat(s.path("nacre.db"))
	fresh := err != nil
	if s.o.ReadOnly && fresh {
		return err
	}
	if fresh {
		if err := s.makeFolders(); err != nil {
			return err
		}
	}
	err = s.connect(ctx)
	if isFull(err) && !s.o.ReadOnly && s.spendReserve() {
		err = s.connect(ctx)
	}
	if s.o.Salvage {
		err = s.salvage(ctx, err)
	}
	if err != nil {
		return err
	}
	if s.o.ReadOnly {
		return nil
	}
	s.keepReserve()
	s.sweepInBackground()
	return nil
}

func (s *Store) connect(ctx context.Context) (err error) {
	s.db, err = openDB(ctx, s.root, s.o.ReadOnly)
	return s.fail(err)
}

// makeFolders lays out a new store. Every step may have been done already, by
// another process at the same moment or by one that died.
func (s *Store) makeFolders() error {
	// Layers hold other people's files with their modes, setuid among them:
	// only the owner of the store looks inside.
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return err
	}
	if err := checkFree(s.root); err != nil {
		return err
	}
	for _, dir := range folders {
		if err := os.MkdirAll(filepath.Join(s.root, dir), 0o700); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(s.root, "oci-layout"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(layoutFile)
	return errors.Join(err, f.Close())
}

// checkFree refuses a folder that other things are in: a store made there by a
// slip of the keyboard would be mixed with them. What a store that is being made has in it is no other thing.
func checkFree(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		ours := slices.ContainsFunc(folders, func(f string) bool { return name == f || strings.HasPrefix(f, name+"/") }) ||
			strings.HasPrefix(name, "nacre.db") || strings.HasPrefix(name, "damaged-") ||
			name == "oci-layout" || name == "reserve" || name == "form" || name == "trimmed" || name == "cache-policy" || name == "lost+found"
		if !ours {
			return fmt.Errorf("%s holds other things, %q for one, and is no store: name an empty or a new folder", root, name)
		}
	}
	return nil
}

// Close ends the use of the store: leases are released, layers closed, what was
// thrown away is unlinked.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	layers := slices.AppendSeq(s.stale, maps.Values(s.layers))
	s.layers, s.stale = nil, nil
	s.mu.Unlock()

	var errs []error
	for _, l := range layers {
		errs = append(errs, l.close())
	}
	if !s.o.ReadOnly {
		ctx := context.Background()
		errs = append(errs, s.noteHits(ctx), s.syncOld(ctx))
		s.bin.empty()
		errs = append(errs, s.disown(ctx))
	}
	errs = append(errs, s.unwatch(), closeDB(s.db, s.root))
	return s.fail(errors.Join(errs...))
}

// Root is the folder of the store.
func (s *Store) Root() string { return s.root }

func (s *Store) now() time.Time { return s.o.Clock() }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// checkDigest tells whether content can be kept under d: by sha256, as every tool that makes images
// has it, or by sha512, which the OCI image spec allows. Errors: registry.ErrUnsupported, ErrInvalid.
func checkDigest(d digest.Digest) error {
	if len(d) != len("sha512:")+128 || d[:7] != "sha512:" {
		_, err := hexOf(d)
		return err
	}
	if !isHex(string(d[7:])) {
		return fmt.Errorf("digest %q: %w", d, registry.ErrInvalid)
	}
	return nil
}

// blobDirs are the folders of blobs.
func (s *Store) blobDirs() []string {
	return []string{s.path("blobs", "sha256"), s.path("blobs", "sha512")}
}

// hexOf returns the folder name of a layer. Layers are named by sha256 alone.
func hexOf(d digest.Digest) (string, error) {
	const prefix = "sha256:"
	if len(d) != len(prefix)+64 || d[:len(prefix)] != prefix {
		return "", fmt.Errorf("digest %q: %w: not sha256", d, registry.ErrUnsupported)
	}
	if !isHex(string(d[len(prefix):])) {
		return "", fmt.Errorf("digest %q: %w", d, registry.ErrInvalid)
	}
	return string(d[len(prefix):]), nil
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

func (s *Store) point(what string) {
	if s.testOnlyPoint != nil {
		s.testOnlyPoint(what)
	}
}

func (s *Store) writable() error {
	if s.o.ReadOnly {
		return fmt.Errorf("store %s: %w", s.root, registry.ErrReadOnly)
	}
	return nil
}
