package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"nacre/internal/registry"
)

// uploadPrefix begins the names of our files: the directory may hold other things.
const uploadPrefix = "upload-"

// sessions are the unfinished uploads of a server: the files of a directory.
type sessions struct {
	dir  string
	idle time.Duration
	max  int

	mu    sync.Mutex
	known map[string]*session // by path; files not in it were begun by another process
	count int                 // of files, known or not
}

// openSessions takes over what an earlier server left unfinished.
func openSessions(r registry.Registry, o Options) (*sessions, error) {
	dir := o.Uploads
	if a, ok := r.(registry.Adopter); ok && dir == "" {
		dir = a.Incoming()
	}
	if dir == "" {
		return nil, errors.New("no directory for uploads")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	all := &sessions{dir: dir, idle: o.UploadIdle, max: o.MaxUploads, known: map[string]*session{}}
	return all, all.sweep()
}

// path is where the session of that name is. The repository is part of it: the same
// session does not exist in another one.
func (a *sessions) path(repo, id string) string {
	sum := sha256.Sum256([]byte(repo))
	return filepath.Join(a.dir, fmt.Sprintf("%s%s-%x", uploadPrefix, id, sum[:8]))
}

// create begins an upload. Errors: *Error where there are too many.
func (a *sessions) create(repo string, algorithm digest.Algorithm) (*session, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count >= a.max {
		return nil, TooManyRequests(time.Minute, "%d uploads are unfinished already", a.count)
	}
	s := &session{id: newSession(), repo: repo}
	s.path = a.path(repo, s.id)
	s.hashWith(algorithm)
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	a.known[s.path] = s
	a.count++
	return s, f.Close()
}

// newSession is a name that cannot be guessed: 128 random bits, in a UUID's form.
func newSession() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// find returns the upload of a repository, begun here or by an earlier server, and how
// much of it there is. Errors: ErrAbsent.
func (a *sessions) find(repo, id string) (_ *session, size int64, err error) {
	path := a.path(repo, id)
	a.mu.Lock()
	defer a.mu.Unlock()
	s, known := a.known[path]
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !fi.Mode().IsRegular()) {
		if known { // another process ended it
			s.gone.Store(true)
			delete(a.known, path)
		}
		return nil, 0, fmt.Errorf("upload %s: %w", id, registry.ErrAbsent)
	}
	if err != nil {
		return nil, 0, err
	}
	if !known {
		s = &session{id: id, repo: repo, path: path}
		a.known[path] = s
	}
	return s, fi.Size(), nil
}

// forget ends a session: its file is removed, or is not ours any more.
func (a *sessions) forget(s *session, remove bool) error {
	if s.gone.Swap(true) {
		return nil
	}
	a.mu.Lock()
	delete(a.known, s.path)
	a.count--
	a.mu.Unlock()
	if !remove {
		return nil
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweepUntil removes idle uploads now and then.
func (a *sessions) sweepUntil(ctx context.Context) {
	t := time.NewTicker(max(a.idle/24, time.Second))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_ = a.sweep() // the next one will see what is still there
		}
	}
}

// sweep removes uploads to which nothing was added for too long, and counts the rest.
func (a *sessions) sweep() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return err
	}
	a.count = 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), uploadPrefix) {
			continue
		}
		path := filepath.Join(a.dir, e.Name())
		fi, err := e.Info()
		if err == nil && (time.Since(fi.ModTime()) < a.idle || !a.expire(path)) {
			a.count++
		}
	}
	for path, s := range a.known {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			s.gone.Store(true) // another process finished it
			delete(a.known, path)
		}
	}
	return nil
}

// expire removes an idle upload, unless somebody is writing to it.
func (a *sessions) expire(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	if s, ok := a.known[path]; ok {
		s.gone.Store(true)
		delete(a.known, path)
	}
	return os.Remove(path) == nil
}
