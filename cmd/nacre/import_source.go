package main

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nacre/internal/event"
	"nacre/internal/source/remote"

	"golang.org/x/term"
)

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// importSource opens what is imported: a file, standard input, or what a URL has.
func (a *app) importSource(ctx context.Context, arg string) (io.ReadCloser, error) {
	if isURL(arg) {
		return a.download(ctx, arg)
	}
	if arg == "-" && term.IsTerminal(int(a.stdin.Fd())) {
		return nil, &hintError{errors.New("standard input is a terminal"), "name a file, or redirect"}
	}
	return a.input(ctx, arg)
}

// download fetches a file into the store's temporary folder. It goes when it is closed, or with the process.
func (a *app) download(ctx context.Context, from string) (io.ReadCloser, error) {
	s, err := a.store(ctx)
	if err != nil {
		return nil, err
	}
	dir, remove, err := s.TempDir("import")
	if err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, "body"))
	if err != nil {
		remove()
		return nil, err
	}
	d := &downloaded{f, remove}
	p, err := a.newTransfer("Downloading", "auto", false)
	if err != nil {
		d.Close()
		return nil, err
	}
	err = fetchFile(ctx, from, f, p.sink)
	if cerr := p.close(err); err == nil {
		err = cerr
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func fetchFile(ctx context.Context, from string, f *os.File, sink event.Sink) error {
	name := from
	if u, err := url.Parse(from); err == nil {
		name = u.Redacted()
	}
	sink(event.Started{Step: event.Step{ID: 1, Name: "download " + name}, Time: time.Now()})
	var client remote.Client
	resp, err := client.Get(ctx, remote.Request{URL: from, Progress: func(current, total int64) {
		sink(event.Progress{ID: 1, Time: time.Now(), Current: current, Total: total, Unit: "B"})
	}}, f)
	sink(event.Done{ID: 1, Time: time.Now(), Size: resp.Size, Err: err})
	return err
}

// downloaded is a file that goes when it is closed.
type downloaded struct {
	*os.File
	remove func()
}

func (d *downloaded) Close() error {
	err := d.File.Close()
	d.remove()
	return err
}
