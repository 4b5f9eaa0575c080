package container

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// What of a log is kept where nobody says otherwise. Without a limit a container could fill the disk.
const (
	DefaultLogSize  = 64 << 20
	DefaultLogFiles = 4
)

// logSpares is the room, in bytes, that logs leave on a disk: a container that talks until nothing fits any more shall
// not keep people from looking after it.
const logSpares = 2 << 20

// maxLogLine is where docker cuts a line that goes on: the rest is another entry.
const maxLogLine = 16 << 10

// logEntry is a line of a log, as docker's json-file driver has it. What is not UTF-8 has
// its bytes in Raw, too.
type logEntry struct {
	Log    string    `json:"log"`
	Raw    string    `json:"raw,omitempty"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// logWriter writes a container's log. It never fails: what cannot be written is counted, and said
// as soon as something can be written again.
type logWriter struct {
	path  string // of the newest file; older ones have .1, .2, … after it
	max   int64
	files int
	fault func(error) // told of the first error and, by nil, of its end

	mu      sync.Mutex
	file    *os.File
	size    int64
	open    map[string][]byte // lines that have no end yet, by stream
	dropped int
	buf     bytes.Buffer
}

func newLogWriter(dir string, c LogConfig, fault func(error)) *logWriter {
	if c.Driver == "none" {
		return nil
	}
	w := &logWriter{path: filepath.Join(dir, logFile), max: c.MaxSize, files: c.MaxFiles, fault: fault, open: map[string][]byte{}}
	if w.max == 0 {
		w.max = DefaultLogSize
	}
	if w.files == 0 {
		w.files = DefaultLogFiles
	}
	return w
}

// write adds output of a stream; nil drops it.
func (w *logWriter) write(stream string, p []byte) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now, lines := time.Now().UTC(), 0
	rest := append(w.open[stream], p...)
	for len(rest) > 0 {
		n := bytes.IndexByte(rest[:min(len(rest), maxLogLine)], '\n') + 1
		if n == 0 {
			if len(rest) < maxLogLine {
				break
			}
			n = cutRune(rest[:maxLogLine])
		}
		w.encode(stream, rest[:n], now)
		lines++
		rest = rest[n:]
		if w.buf.Len() > 1<<20 {
			w.flush(lines)
			lines = 0
		}
	}
	w.open[stream] = append(w.open[stream][:0], rest...)
	w.flush(lines)
}

// cutRune is the length of p without a character that is cut off at its end.
func cutRune(p []byte) int {
	for i := 1; i < utf8.UTFMax && i < len(p); i++ {
		if c := p[len(p)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(p[len(p)-i:]) {
				return len(p) - i
			}
			break
		}
	}
	return len(p)
}

// end writes lines that will have no end any more.
func (w *logWriter) end() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for stream, rest := range w.open {
		if len(rest) > 0 {
			w.encode(stream, rest, time.Now().UTC())
			w.flush(1)
		}
	}
	clear(w.open)
}

func (w *logWriter) close() {
	if w == nil {
		return
	}
	w.end()
	if w.file != nil {
		w.file.Close()
	}
}

func (w *logWriter) encode(stream string, line []byte, now time.Time) {
	e := logEntry{Log: string(line), Stream: stream, Time: now}
	if !utf8.Valid(line) {
		e.Raw = base64.StdEncoding.EncodeToString(line)
	}
	data, err := json.Marshal(e)
	if err != nil { // a clock beyond the year 9999
		return
	}
	w.buf.Write(data)
	w.buf.WriteByte('\n')
}

// flush writes what is encoded, of so many lines.
func (w *logWriter) flush(lines int) {
	if w.buf.Len() == 0 {
		return
	}
	data := bytes.Clone(w.buf.Bytes())
	w.buf.Reset()
	if w.dropped > 0 {
		w.encode("stderr", fmt.Appendf(nil, "nacre: %d lines of output are missing here: the log could not be written\n", w.dropped), time.Now().UTC())
		data = append(bytes.Clone(w.buf.Bytes()), data...)
		w.buf.Reset()
	}
	if err := w.put(data); err != nil {
		if w.dropped == 0 {
			w.fault(err)
		}
		w.dropped += lines
		return
	}
	if w.dropped > 0 {
		w.dropped = 0
		w.fault(nil)
	}
}

// put appends lines, to as many files as that takes.
func (w *logWriter) put(data []byte) error {
	for len(data) > 0 {
		if w.file == nil {
			if err := w.openFile(); err != nil {
				return err
			}
		}
		n := len(data)
		if w.max > 0 && w.size+int64(n) > w.max {
			room := max(0, w.max-w.size)
			n = bytes.LastIndexByte(data[:room], '\n') + 1
			if n == 0 && w.size > 0 {
				if err := w.rotate(); err != nil {
					return err
				}
				continue
			}
			if n == 0 { // one line that is longer than a file may be
				n = bytes.IndexByte(data, '\n') + 1
			}
		}
		if err := w.append(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (w *logWriter) openFile() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if w.size, err = endOfLines(f); err != nil {
		f.Close()
		return err
	}
	w.file = f
	return nil
}

// append writes data to the newest file, all of it or nothing.
func (w *logWriter) append(data []byte) error {
	var st unix.Statfs_t
	if unix.Fstatfs(int(w.file.Fd()), &st) == nil && int64(st.Bavail)*st.Bsize < logSpares+int64(len(data)) {
		return &os.PathError{Op: "write", Path: w.path, Err: unix.ENOSPC}
	}
	n, err := w.file.Write(data)
	if err != nil {
		if n > 0 && w.file.Truncate(w.size) != nil {
			w.size += int64(n)
		}
		return err
	}
	w.size += int64(n)
	return nil
}

// endOfLines is the size of a log, which it cuts after its last whole line: a monitor may have been killed
// in the middle of one.
func endOfLines(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return 0, err
	}
	r, err := os.Open(f.Name())
	if err != nil {
		return 0, err
	}
	defer r.Close()
	const window = 1 << 20
	from := max(0, st.Size()-window)
	tail := make([]byte, st.Size()-from)
	if _, err := r.ReadAt(tail, from); err != nil {
		return 0, err
	}
	size := from + int64(bytes.LastIndexByte(tail, '\n')) + 1
	if size == st.Size() {
		return size, nil
	}
	return size, f.Truncate(size)
}

// rotate makes room: the newest file becomes .1, .1 becomes .2, and the oldest goes.
func (w *logWriter) rotate() error {
	w.file.Close()
	w.file = nil
	for i := w.files - 1; i > 0; i-- {
		from := w.path
		if i > 1 {
			from += "." + strconv.Itoa(i-1)
		}
		if err := os.Rename(from, w.path+"."+strconv.Itoa(i)); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if w.files == 1 {
		return os.Remove(w.path)
	}
	return nil
}
