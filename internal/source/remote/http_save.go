package remote

import (
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// download is a file on its way, over all tries.
type download struct {
	Request
	f     *os.File
	limit int64

	size int64 // of what came and counts; 0 where the next try starts over
	hash hash.Hash
	// tag and date are what the server said of the bytes that came: it goes on only with the same.
	// Both are empty where it cannot go on.
	tag, date string
}

// errElsewhere: the server went on at another place than asked for, or with another file.
var errElsewhere = errors.New("the file changed while it was fetched")

// begin starts over, with what resp has.
func (d *download) begin(resp *http.Response) error {
	d.forget()
	d.hash = sha256.New()
	if err := d.f.Truncate(0); err != nil {
		return err
	}
	_, err := d.f.Seek(0, io.SeekStart)
	return err
}

// forget makes the next try start over.
func (d *download) forget() { d.size, d.tag, d.date = 0, "", "" }

// remember notes by what the next try can go on: it takes a name for exactly these bytes (RFC 9110, 13.1.5).
func (d *download) remember(resp *http.Response) {
	if resp.Header.Get("Content-Encoding") != "" || resp.Header.Get("Accept-Ranges") == "none" {
		return
	}
	if tag := resp.Header.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		d.tag = tag
	}
	d.date = resp.Header.Get("Last-Modified")
}

// continues tells whether resp is the rest of the file.
func (d *download) continues(resp *http.Response) bool {
	from, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	from, _, dash := strings.Cut(from, "-")
	at, err := strconv.ParseInt(from, 10, 64)
	tag := resp.Header.Get("ETag")
	return ok && dash && err == nil && at == d.size && (tag == "" || d.tag == "" || tag == d.tag)
}

// save writes the body to the end of the file.
func (d *download) save(resp *http.Response, w *watch) (err error) {
	if resp.StatusCode == http.StatusOK {
		d.remember(resp)
	}
	defer func() {
		if err != nil && d.tag == "" && d.date == "" {
			d.forget()
		}
	}()
	total := int64(0)
	if resp.ContentLength > 0 {
		total = d.size + resp.ContentLength
	}
	if total > d.limit {
		return fmt.Errorf("%w: %d bytes where %d are the limit", ErrLimit, total, d.limit)
	}
	body, err := decoded(resp)
	if err != nil {
		return err
	}
	if body != resp.Body {
		total = 0 // of what is in it nothing is said
	}
	buf := make([]byte, 128<<10)
	for {
		w.alive()
		n, err := body.Read(buf)
		if d.size+int64(n) > d.limit {
			return fmt.Errorf("%w: more than %d bytes", ErrLimit, d.limit)
		}
		if _, err := d.f.Write(buf[:n]); err != nil {
			d.forget()
			return err
		}
		d.hash.Write(buf[:n])
		d.size += int64(n)
		if d.Progress != nil && n > 0 {
			d.Progress(d.size, total)
		}
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF) && total > 0:
			return fmt.Errorf("%w: %d of %d bytes came", ErrCutOff, d.size, total)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: after %d bytes", ErrCutOff, d.size)
		case err != nil:
			return fmt.Errorf("after %d bytes: %w", d.size, err)
		}
	}
}

// decoded undoes an encoding that was not asked for: some servers keep files compressed and know no
// other way to send them.
func decoded(resp *http.Response) (io.Reader, error) {
	switch encoding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); encoding {
	case "", "identity", "x-gzip":
		// Servers of archives call those x-gzip, and mean the archive.
		return resp.Body, nil
	case "gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return nil, fmt.Errorf("content encoding gzip: %w", err)
		}
		return z, nil
	default:
		return nil, fmt.Errorf("the server sends it encoded as %q, and was asked for the file itself", encoding)
	}
}
