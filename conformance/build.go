package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// builder is nacre with a store of its own.
type builder struct{ nacre, root, scratch string }

// outcome is what nacre made of a case.
type outcome struct {
	err    error // of the program, where it did not end well
	text   string
	config map[string]any
	files  tree
}

func (o outcome) String() string {
	if o.err != nil {
		return o.text
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(o.files)) {
		fmt.Fprintf(&b, "%s %+v\n", name, o.files[name])
	}
	return b.String()
}

func (b builder) build(ctx context.Context, c testCase) outcome {
	args := []string{"build", "--progress", "plain", "-t", "case"}
	if c.Dockerfile != "" {
		args = append(args, "-f", filepath.Join(c.context, c.Dockerfile))
	}
	for name, value := range c.BuildArgs {
		args = append(args, "--build-arg", name+"="+value)
	}
	text, err := b.run(ctx, append(args, c.context)...)
	o := outcome{err: err, text: text}
	if err == nil {
		o.config, o.files, o.err = b.image(ctx, "case")
	}
	return o
}

// run runs nacre and returns what it printed.
func (b builder) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.nacre, append([]string{"--root", b.root}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// image saves an image and flattens it.
func (b builder) image(ctx context.Context, name string) (map[string]any, tree, error) {
	saved := filepath.Join(b.scratch, "saved.tar")
	if text, err := b.run(ctx, "save", "-o", saved, name); err != nil {
		return nil, nil, fmt.Errorf("save: %w\n%s", err, text)
	}
	members, err := readMembers(saved)
	if err != nil {
		return nil, nil, err
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(members["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return nil, nil, fmt.Errorf("%s: no manifest of one image: %v", saved, err)
	}
	var config struct{ Config map[string]any }
	if err := json.Unmarshal(members[manifest[0].Config], &config); err != nil {
		return nil, nil, err
	}
	files := tree{}
	for _, layer := range manifest[0].Layers {
		if err := files.apply(bytes.NewReader(members[layer])); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", layer, err)
		}
	}
	return config.Config, files, nil
}

// readMembers reads an archive of small images whole.
func readMembers(name string) (map[string][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	members := map[string][]byte{}
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return members, nil
		}
		if err != nil {
			return nil, err
		}
		if members[h.Name], err = io.ReadAll(t); err != nil {
			return nil, err
		}
	}
}

// apply puts a layer on top.
func (t tree) apply(layer io.Reader) error {
	for r := tar.NewReader(layer); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.Trim(path.Clean("/"+h.Name), "/")
		dir, base := path.Split(name)
		switch hidden, whiteout := strings.CutPrefix(base, ".wh."); {
		case base == ".wh..wh..opq":
			t.remove(strings.TrimSuffix(dir, "/"), false)
			continue
		case whiteout:
			t.remove(dir+hidden, true)
			continue
		}
		f := file{Type: string(h.Typeflag), Mode: h.Mode, UID: h.Uid, GID: h.Gid, Size: h.Size,
			MTime: h.ModTime.Unix(), Link: h.Linkname, Xattrs: map[string]string{}}
		for record, value := range h.PAXRecords {
			if strings.HasPrefix(record, "SCHILY.xattr.") {
				f.Xattrs[record] = value
			}
		}
		if h.Typeflag == tar.TypeReg {
			sum := sha256.New()
			if _, err := io.Copy(sum, r); err != nil {
				return err
			}
			f.Digest = fmt.Sprintf("%x", sum.Sum(nil))[:12]
		}
		if h.Typeflag != tar.TypeDir {
			t.remove(name, true)
		}
		t[name] = f
	}
}

// remove forgets what is below name, and name itself where asked to.
func (t tree) remove(name string, itself bool) {
	for other := range t {
		if strings.HasPrefix(other, name+"/") || itself && other == name {
			delete(t, other)
		}
	}
}
