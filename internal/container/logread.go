package container

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"nacre/internal/registry/store"
)

// LogLine is a line of a container's output, with its newline; a long line comes in pieces without.
type LogLine struct {
	Stream string // "stdout" or "stderr"
	Time   time.Time
	Data   []byte
}

// LogOptions say what Logs is to give.
type LogOptions struct {
	Follow       bool
	Tail         int // how many lines at most of those there are; below zero: all
	Since, Until time.Time
}

// ErrNoLog: the container keeps no log (--log-driver none).
var ErrNoLog = errors.New("configured logging driver does not support reading")

// Logs gives the lines of the log to emit, oldest first. With Follow it goes on with new ones, until
// the container's monitor has ended.
func (c *Container) Logs(ctx context.Context, o LogOptions, emit func(LogLine) error) error {
	if c.Config.Log.Driver == "none" {
		return ErrNoLog
	}
	r := &logReader{path: filepath.Join(c.dir, logFile), o: o, emit: emit}
	files, err := r.list()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	at := make([]int64, len(files)) // where to begin in each
	if o.Tail >= 0 {
		if files, at, err = tail(files, o.Tail); err != nil {
			return err
		}
	}
	var last *bufio.Reader
	for i, f := range files {
		if _, err := f.Seek(at[i], io.SeekStart); err != nil {
			return err
		}
		last = bufio.NewReaderSize(f, 64<<10)
		if err := r.drain(ctx, last); err != nil {
			return done(err)
		}
	}
	if !o.Follow {
		return nil
	}
	var current *os.File
	if len(files) > 0 {
		current = files[len(files)-1]
	}
	return done(r.follow(ctx, c.dir, current, last))
}

var errUntil = errors.New("the end of what was asked for")

func done(err error) error {
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

type logReader struct {
	path string
	o    LogOptions
	emit func(LogLine) error
	held []byte // the beginning of a line that is not whole yet
}

// list opens the files of the log, oldest first.
func (r *logReader) list() (files []*os.File, err error) {
	for i := 0; ; i++ {
		name := r.path
		if i > 0 {
			name += "." + strconv.Itoa(i)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			if i == 0 {
				continue // just rotated away, or nothing was written yet
			}
			return files, nil
		}
		if err != nil {
			return files, err
		}
		if len(files) > 0 && sameFile(f, files[0]) { // rotated meanwhile
			f.Close()
			continue
		}
		files = append([]*os.File{f}, files...)
	}
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// drain emits what there is.
func (r *logReader) drain(ctx context.Context, in *bufio.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		part, err := in.ReadSlice('\n')
		r.held = append(r.held, part...)
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if err != nil {
			if len(r.held) > 1<<20 {
				r.held = r.held[:0] // no line of ours
			}
			continue
		}
		line := r.held
		r.held = r.held[:0]
		if err := r.line(line); err != nil {
			return err
		}
	}
}

// line emits one entry. What is none is passed over.
func (r *logReader) line(data []byte) error {
	var e logEntry
	if json.Unmarshal(data, &e) != nil {
		return nil
	}
	if !r.o.Since.IsZero() && e.Time.Before(r.o.Since) {
		return nil
	}
	if !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
		return errUntil
	}
	l := LogLine{Stream: e.Stream, Time: e.Time, Data: []byte(e.Log)}
	if e.Raw != "" {
		if raw, err := base64.StdEncoding.DecodeString(e.Raw); err == nil {
			l.Data = raw
		}
	}
	return r.emit(l)
}

// How often a log that is followed is looked at: often while something comes.
const (
	followSoon = 20 * time.Millisecond
	followLate = 250 * time.Millisecond
)

// follow emits what comes until the container has no monitor any more.
func (r *logReader) follow(ctx context.Context, dir string, f *os.File, in *bufio.Reader) error {
	wait := followSoon
	for {
		alive := store.ContainerLocked(dir) // asked before looking, so that nothing is missed
		moved := false
		if in != nil {
			before := len(r.held)
			at, _ := f.Seek(0, io.SeekCurrent)
			if err := r.drain(ctx, in); err != nil {
				return err
			}
			if now, _ := f.Seek(0, io.SeekCurrent); now != at || before != len(r.held) {
				wait = followSoon
			}
		}
		next, err := r.next(f)
		if err != nil {
			return err
		}
		if next != nil {
			if in != nil {
				r.drain(ctx, in) // what came between the two looks
				f.Close()
			}
			f, in, moved = next, bufio.NewReaderSize(next, 64<<10), true
		}
		if moved {
			continue
		}
		if !alive {
			return nil
		}
		if !r.o.Until.IsZero() && time.Now().After(r.o.Until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
			wait = min(2*wait, followLate)
		}
	}
}

// next opens the file that follows f, where f is not the newest any more; nil: it is.
func (r *logReader) next(f *os.File) (*os.File, error) {
	files, err := r.list()
	if err != nil || len(files) == 0 {
		return nil, err
	}
	pick := 0
	for i, g := range files {
		if f != nil && sameFile(f, g) {
			pick = i + 1
		}
	}
	for i, g := range files {
		if i != pick {
			g.Close()
		}
	}
	if pick == len(files) {
		return nil, nil
	}
	return files[pick], nil
}

// tail finds where the last n lines begin: the files from that one on, and where in each.
func tail(files []*os.File, n int) ([]*os.File, []int64, error) {
	left := n
	for i := len(files) - 1; i >= 0; i-- {
		at, found, err := lastLines(files[i], left)
		if err != nil {
			return files, nil, err
		}
		left -= found
		if left <= 0 || i == 0 {
			starts := make([]int64, len(files)-i)
			starts[0] = at
			for _, f := range files[:i] {
				f.Close()
			}
			return files[i:], starts, nil
		}
	}
	return files, nil, nil
}

// lineEnd ends an entry that ends a line of output.
var lineEnd = []byte(`\n","`)

// lastLines finds where the last n lines of output of a file begin, and how many there are if fewer.
func lastLines(f *os.File, n int) (at int64, found int, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	const window = 64 << 10
	end := st.Size()
	at = end
	var tail []byte // of the entry that begins before what was read
	for pos := end; pos > 0; {
		from := max(0, pos-window)
		block := make([]byte, pos-from)
		if _, err := f.ReadAt(block, from); err != nil && err != io.EOF {
			return 0, 0, err
		}
		data := append(block, tail...)
		pos = from
		for {
			i := bytes.LastIndexByte(bytes.TrimSuffix(data, []byte("\n")), '\n')
			if i < 0 && pos > 0 {
				break
			}
			entry := data[i+1:]
			if len(entry) > 0 {
				if bytes.Contains(entry, lineEnd) || at == end { // the last may have no end
					if found == n {
						return at, found, nil
					}
					found++
				}
				at = pos + int64(i+1)
			}
			data = data[:i+1]
			if i < 0 {
				break
			}
		}
		tail = data
	}
	return at, found, nil
}
