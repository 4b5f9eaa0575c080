package store

import (
	"errors"
	"fmt"
	"io/fs"

	"nacre/internal/registry"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// Errors that callers decide on, besides those of package registry.
var (
	// ErrAmbiguous: a prefix of an ID fits several images; the message names them.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrInUse: what was to be removed is needed; the message says by what.
	ErrInUse = errors.New("in use")
	// ErrVersion: the store was written by a newer nacre.
	ErrVersion = errors.New("store format differs")
	// ErrQuota: a repository would hold more than it may.
	ErrQuota = denied("the quota is exceeded")
	// ErrFixed: a tag names something else, and may not be moved.
	ErrFixed = denied("the tag is immutable")
	// ErrDamaged: the database cannot be read. Options.Salvage makes a new one
	// of what can be.
	ErrDamaged = errors.New("damaged database")
)

// deniedError is registry.ErrDenied in other words.
type deniedError struct{ text string }

func denied(text string) error { return &deniedError{text} }

func (e *deniedError) Error() string        { return e.text }
func (e *deniedError) Is(target error) bool { return target == registry.ErrDenied }

// conflictError is ErrInUse in the words of docker's daemon, which scripts rely on.
type conflictError struct {
	text      string
	container string // that uses it, by name
}

func (e *conflictError) Error() string { return "conflict: " + e.text }
func (e *conflictError) Is(target error) bool {
	return target == ErrInUse || target == registry.ErrDenied
}

func conflictf(format string, args ...any) error {
	return &conflictError{text: fmt.Sprintf(format, args...)}
}

// fullError is ENOSPC in words that name the store. It is unix.ENOSPC to
// errors.Is whoever noticed it, SQLite or a write.
type fullError struct {
	root string
	err  error
}

func (e *fullError) Error() string        { return "no space left in " + e.root }
func (e *fullError) Unwrap() error        { return e.err }
func (e *fullError) Is(target error) bool { return target == unix.ENOSPC }

// Primary SQLite result codes, https://www.sqlite.org/rescode.html.
const (
	sqliteReadonly = 8
	sqliteIOErr    = 10
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteNotADB   = 26
)

// fail puts errors of the file system and of SQLite into words that name the
// store. Others pass unchanged.
func (s *Store) fail(err error) error { return explain(s.root, err) }

func explain(root string, err error) error {
	if err == nil {
		return nil
	}
	if full := (*fullError)(nil); errors.As(err, &full) {
		return err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &fullError{root, err}
	}
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("store %s: %w: %w", root, registry.ErrReadOnly, err)
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return err
	}
	switch se.Code() & 0xff {
	case sqliteFull:
		return &fullError{root, err}
	case sqliteIOErr, sqliteCantOpen:
		if noSpace(root) {
			return &fullError{root, err}
		}
		if unix.Access(root, unix.W_OK) != nil {
			return fmt.Errorf("store %s cannot be written: %w: %w", root, fs.ErrPermission, err)
		}
	case sqliteReadonly:
		return fmt.Errorf("store %s: %w: %w", root, registry.ErrReadOnly, err)
	case sqliteCorrupt, sqliteNotADB:
		return fmt.Errorf("store %s: %w: %w", root, ErrDamaged, err)
	}
	return err
}

// shmSize is that of SQLite's shared memory file, which it makes anew when nobody has it open.
const shmSize = 32 << 10

// noSpace tells whether the file system of path has no free inode, or not the blocks that
// SQLite needs to enlarge its shared memory file, which it reports as an I/O error.
func noSpace(path string) bool {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return false
	}
	return int64(st.Bavail)*st.Bsize < shmSize || (st.Files > 0 && st.Ffree == 0)
}

// isFull tells whether err means that the disk is full.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) }

// UsedBy is the name of the container that an ErrInUse is about, or "".
func UsedBy(err error) string {
	var c *conflictError
	if errors.As(err, &c) {
		return c.container
	}
	return ""
}
