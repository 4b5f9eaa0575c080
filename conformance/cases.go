package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
)

// testCase is one entry of cases.json.
type testCase struct {
	Name, Dir  string
	Dockerfile string
	BuildArgs  map[string]string
	Expect     string // "ok" or "fail"
	Ignore     []string
	BuildKit   *record

	context string // its folder
}

// record is what a builder made of a case.
type record struct {
	RC     int
	Config map[string]any
	FS     tree
	Error  string
}

// tree is a flattened image, by path without slash at either end.
type tree map[string]file

// file is one object as cases.json has it.
type file struct {
	Type   string            `json:"t"` // of a tar header: "0" a file, "1" a hard link, "2" a symlink, "5" a directory
	Mode   int64             `json:"mode"`
	UID    int               `json:"uid"`
	GID    int               `json:"gid"`
	Size   int64             `json:"size"`
	MTime  int64             `json:"mtime"`
	Link   string            `json:"link"`
	Xattrs map[string]string `json:"x"` // by PAX record
	Digest string            `json:"d"` // the first 12 digits of the content's sha256
}

// modified is the time of every context file and of everything in the bases.
var modified = time.Unix(1485449953, 0)

// load unpacks the archive into dir and reads its cases.json.
func load(archive, dir string) ([]testCase, error) {
	if err := unpack(archive, dir); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "dockerfile-cases", "cases.json"))
	if err != nil {
		return nil, err
	}
	var cases []testCase
	if err := json.Unmarshal(data, &cases); err != nil {
		return nil, fmt.Errorf("cases.json: %w", err)
	}
	for i := range cases {
		c := &cases[i]
		c.context = filepath.Join(dir, "dockerfile-cases", c.Dir, "context")
		if c.BuildKit == nil {
			return nil, fmt.Errorf("cases.json: %s has no record of BuildKit", c.Name)
		}
	}
	return cases, nil
}

func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	defer z.Close()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var dirs []*tar.Header
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = write(root, h, t)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		if h.Typeflag == tar.TypeDir {
			dirs = append(dirs, h)
		}
	}
	for _, h := range dirs { // last: what is written into a directory changes its time
		if err := root.Chtimes(h.Name, modified, modified); err != nil {
			return err
		}
	}
	return nil
}

// write makes one object. Modes count in the cases, whatever the umask is.
func write(root *os.Root, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(h.Name, 0o755); err != nil {
			return err
		}
	case tar.TypeReg:
		f, err := root.Create(h.Name)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, content); err != nil {
			f.Close()
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	case tar.TypeLink:
		return root.Link(h.Linkname, h.Name)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, h.Name)
	default:
		return fmt.Errorf("%s: type %q", h.Name, h.Typeflag)
	}
	if err := root.Chmod(h.Name, h.FileInfo().Mode()); err != nil {
		return err
	}
	return root.Chtimes(h.Name, modified, modified)
}
