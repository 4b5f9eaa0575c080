package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

// load does what the load command does: copy everything an archive names.
func load(ctx context.Context, r io.Reader, scratch string) error {
	a, err := archive.Open(ctx, r, scratch)
	if err != nil {
		return err
	}
	defer a.Close()
	dst := mem.New()
	for n, err := range a.Refs(ctx) {
		if err != nil {
			return err
		}
		if _, err := registry.Copy(ctx, dst, n.Ref, a, registry.Ref{Digest: n.Desc.Digest}, registry.CopyOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func TestHostile(t *testing.T) {
	img := registrytest.Hello("hostile")
	cfg, layer0, layer1 := img.Blobs[2], img.Blobs[0], img.Blobs[1]
	cfgFile := file{name: "c.json", content: string(cfg.Data)}
	l0, l1 := file{name: "0.tar", content: string(layer0.Data)}, file{name: "1.tar", content: string(layer1.Data)}
	manifest := func(config string, layers ...string) file {
		return file{name: "manifest.json", content: fmt.Sprintf(`[{"Config":%q,"RepoTags":["x:1"],"Layers":["%s"]}]`, config, strings.Join(layers, `","`))}
	}
	good := manifest("c.json", "0.tar", "1.tar")
	index := func(entries string) file {
		return file{name: "index.json", content: `{"schemaVersion":2,"manifests":[` + entries + `]}`}
	}
	entry := func(d registry.Descriptor) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, d.MediaType, d.Digest, d.Size)
	}
	blob := func(b registrytest.Blob) file {
		return file{name: "blobs/sha256/" + b.Digest.Encoded(), content: string(b.Data)}
	}
	oci := []file{blob(layer0), blob(layer1), blob(cfg), blob(img.Blobs[3]), index(entry(img.Desc()))}
	flipped := l1
	flipped.content = "x" + flipped.content[1:]

	for name, c := range map[string]struct {
		files []file
		want  error // nil: it loads
		text  string
	}{
		"good":                       {[]file{cfgFile, l0, l1, good}, nil, ""},
		"good OCI":                   {oci, nil, ""},
		"dot-slash names":            {[]file{{name: "./c.json", content: cfgFile.content}, {name: "./0.tar", content: l0.content}, {name: "./1.tar", content: l1.content}, {name: "./manifest.json", content: good.content}}, nil, ""},
		"empty":                      {nil, registry.ErrInvalid, "neither index.json nor manifest.json"},
		"another tar":                {[]file{{name: "etc/passwd", content: "x"}}, registry.ErrInvalid, "not an image archive"},
		"traversal in manifest.json": {[]file{cfgFile, l0, l1, manifest("c.json", "../../../../etc/passwd", "1.tar")}, registry.ErrInvalid, "leaves the archive"},
		"absolute in manifest.json":  {[]file{cfgFile, l0, l1, manifest("/etc/passwd", "0.tar", "1.tar")}, registry.ErrInvalid, "leaves the archive"},
		"traversal by entry":         {[]file{{name: "../../etc/cron.d/x", content: "x"}, cfgFile, l0, l1, good}, registry.ErrInvalid, "leaves the archive"},
		"absolute entry":             {[]file{{name: "/etc/cron.d/x", content: "x"}}, registry.ErrInvalid, "leaves the archive"},
		"symlink out":                {[]file{cfgFile, {name: "0.tar", typ: tar.TypeSymlink, link: "../etc/passwd"}, l1, good}, registry.ErrInvalid, "leaves the archive"},
		"symlink to absolute":        {[]file{cfgFile, {name: "0.tar", typ: tar.TypeSymlink, link: "/etc/passwd"}, l1, good}, registry.ErrInvalid, "leaves the archive"},
		"hard link out":              {[]file{cfgFile, {name: "0.tar", typ: tar.TypeLink, link: "../x"}, l1, good}, registry.ErrInvalid, "leaves the archive"},
		"links in a circle":          {[]file{cfgFile, {name: "0.tar", typ: tar.TypeSymlink, link: "a"}, {name: "a", typ: tar.TypeSymlink, link: "0.tar"}, l1, good}, registry.ErrInvalid, "too many links"},
		"link to nothing":            {[]file{cfgFile, {name: "0.tar", typ: tar.TypeLink, link: "nothing"}, l1, good}, registry.ErrAbsent, "0.tar"},
		"hard link":                  {[]file{cfgFile, {name: "z", content: l0.content}, {name: "0.tar", typ: tar.TypeLink, link: "z"}, l1, good}, nil, ""},
		"device":                     {[]file{{name: "0.tar", typ: tar.TypeBlock}, cfgFile, l1, good}, registry.ErrInvalid, "no image archive has"},
		"fifo":                       {[]file{{name: "0.tar", typ: tar.TypeFifo}, cfgFile, l1, good}, registry.ErrInvalid, "no image archive has"},
		"layer is missing":           {[]file{cfgFile, l0, good}, registry.ErrAbsent, `"1.tar"`},
		"config is missing":          {[]file{l0, l1, good}, registry.ErrAbsent, `"c.json"`},
		"layer is a directory":       {[]file{cfgFile, l0, {name: "1.tar/", typ: tar.TypeDir}, good}, registry.ErrAbsent, `"1.tar"`},
		"layers swapped":             {[]file{cfgFile, l0, l1, manifest("c.json", "1.tar", "0.tar")}, registry.ErrDigest, ""},
		"layer changed":              {[]file{cfgFile, l0, flipped, good}, registry.ErrDigest, layer1.Digest.String()},
		"a layer less":               {[]file{cfgFile, l0, l1, manifest("c.json", "0.tar")}, registry.ErrInvalid, "1 layers, 2 diff_ids"},
		"config of another digest":   {[]file{{name: strings.Repeat("0", 64) + ".json", content: cfgFile.content}, l0, l1, manifest(strings.Repeat("0", 64)+".json", "0.tar", "1.tar")}, registry.ErrDigest, "0000"},
		"config is no JSON":          {[]file{{name: "c.json", content: "\x7fELF"}, l0, l1, good}, registry.ErrInvalid, "config"},
		"config too large":           {[]file{{name: "c.json", content: strings.Repeat(" ", image.MaxSize+1)}, l0, l1, good}, registry.ErrInvalid, "c.json"},
		"diffID with a path":         {[]file{{name: "c.json", content: `{"rootfs":{"type":"layers","diff_ids":["sha256:../../x","sha256:y"]}}`}, l0, l1, good}, registry.ErrInvalid, "diff_ids[0]"},
		"manifest.json is no JSON":   {[]file{{name: "manifest.json", content: "[{"}}, registry.ErrInvalid, "manifest.json"},
		"manifest.json too large":    {[]file{{name: "manifest.json", content: strings.Repeat(" ", image.MaxSize+1)}}, registry.ErrInvalid, "manifest.json"},
		"bad name in RepoTags":       {[]file{cfgFile, l0, l1, {name: "manifest.json", content: strings.Replace(good.content, "x:1", "../../X", 1)}}, registry.ErrInvalid, "../../X"},
		"no name, as docker says it": {[]file{cfgFile, l0, l1, {name: "manifest.json", content: strings.Replace(good.content, "x:1", "<none>:<none>", 1)}}, nil, ""},
		"null in RepoTags":           {[]file{cfgFile, l0, l1, {name: "manifest.json", content: strings.Replace(good.content, `["x:1"]`, "null", 1)}}, nil, ""},
		"two manifest.json":          {[]file{cfgFile, l0, l1, good, manifest("c.json", "1.tar", "0.tar")}, registry.ErrInvalid, `"manifest.json": invalid content: twice`},
		"two layers of one name":     {[]file{cfgFile, l0, l1, flipped, good}, registry.ErrInvalid, "twice in the archive"},
		"the same layer twice":       {[]file{cfgFile, l0, l1, l1, good}, nil, ""},
		"size beyond the end":        {[]file{cfgFile, l0, {name: "1.tar", content: l1.content, size: 1 << 40}}, archive.ErrTruncated, "1.tar"},
		"size of 8 EiB":              {[]file{{name: "1.tar", content: "x", size: 1<<63 - 1}}, nil, ""},
		"not a tar":                  {[]file{{}}, nil, ""},
		"index.json too large":       {[]file{{name: "index.json", content: strings.Repeat(" ", registry.MaxNames+1)}}, registry.ErrInvalid, "index.json"},
		"index.json with a path":     {[]file{index(`{"mediaType":"` + image.TypeManifest + `","digest":"sha256:../../../etc/passwd","size":1}`)}, registry.ErrInvalid, "manifests[0]"},
		"oci-layout of version 9":    {append([]file{{name: "oci-layout", content: `{"imageLayoutVersion":"9.0.0"}`}}, oci...), registry.ErrUnsupported, "9.0.0"},
		"oci-layout is no JSON":      {append([]file{{name: "oci-layout", content: `x`}}, oci...), registry.ErrInvalid, "oci-layout"},
		"blob is missing":            {oci[1:], registry.ErrAbsent, layer0.Digest.Encoded()},
		"manifest is missing":        {append(oci[:3:3], oci[4]), registry.ErrAbsent, img.Desc().Digest.Encoded()},
		"blob changed":               {append([]file{{name: oci[0].name, content: "x" + oci[0].content[1:]}}, oci[1:]...), registry.ErrDigest, layer0.Digest.String()},
		"blob longer":                {append([]file{{name: oci[0].name, content: oci[0].content + "x"}}, oci[1:]...), registry.ErrSize, layer0.Digest.String()},
		"blob is a symlink out":      {append([]file{{name: oci[0].name, typ: tar.TypeSymlink, link: "../../../../etc/passwd"}}, oci[1:]...), registry.ErrInvalid, "leaves the archive"},
		"index decides":              {append(oci[:5:5], file{name: "manifest.json", content: "nonsense"}), nil, ""},
		"name too long":              {[]file{{name: strings.Repeat("a/", 3000) + "a", content: ""}}, registry.ErrInvalid, "bad name"},
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte("GIF89a" + strings.Repeat("x", 4096))
			if name != "not a tar" {
				data = tarOf(t, c.files...)
			}
			scratch := t.TempDir()
			err := load(t.Context(), bytes.NewReader(data), scratch)
			loads := c.want == nil && c.text == "" && name != "not a tar" && name != "size of 8 EiB"
			if (err == nil) != loads || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q does not say %q", err, c.text)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			if left, _ := os.ReadDir(scratch); len(left) > 0 {
				t.Errorf("left in scratch: %v", left)
			}
		})
	}
}

// TestSparse: GNU tar's sparse files, in both of its ways to say so, have content
// that is not where it seems to be.
func TestSparse(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("[]"), 1<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, format := range []string{"gnu", "pax"} {
		data, err := exec.Command("tar", "-C", dir, "--format="+format, "--sparse", "-cf", "-", "manifest.json").Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := load(t.Context(), bytes.NewReader(data), dir); !errors.Is(err, registry.ErrUnsupported) || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// TestManyNames: a manifest.json as large as is allowed, full of names of one image, is
// read. If the time grew with its square, it would not end before the limit of the whole run.
func TestManyNames(t *testing.T) {
	img := registrytest.NewImage(image.DefaultPlatform(), nil)
	var items strings.Builder
	items.WriteString(`[{"Config":"c","RepoTags":["a:0"`)
	for i := 1; items.Len() < image.MaxSize-100; i++ {
		fmt.Fprintf(&items, `,"a:%d"`, i)
	}
	items.WriteString(`],"Layers":[]}]`)
	data := tarOf(t, file{name: "c", content: string(img.Blobs[0].Data)}, file{name: "manifest.json", content: items.String()})
	a := open(t, data)
	n := 0
	for _, err := range a.Refs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n < 300_000 {
		t.Errorf("%d names", n)
	}
}

// FuzzOpen: whatever the bytes, reading them ends, without panic, leaves nothing
// in scratch, and what is copied out is what its digests say.
func FuzzOpen(f *testing.F) {
	img := registrytest.Hello("fuzz")
	for _, kind := range []archive.Kind{archive.Docker, archive.OCI} {
		var b bytes.Buffer
		save(f, &b, kind, "fuzz:1", img)
		f.Add(b.Bytes())
	}
	for _, pack := range packers {
		f.Add(legacy(f, map[string]registrytest.Image{"a:1": img, "b:1": img}, pack))
	}
	f.Add(tarOf(f, ancient(packers["plain"], `{"x":{"1":"`+oldID(1)+`"}}`)...))
	f.Add(packers["gzip"](legacy(f, map[string]registrytest.Image{"a:1": img}, packers["plain"])))
	f.Add(tarOf(f, file{name: "a", typ: tar.TypeSymlink, link: "b"}, file{name: "b", typ: tar.TypeLink, link: "a"}, file{name: "manifest.json", content: `[{"Config":"a"}]`}))
	scratch := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := load(t.Context(), bytes.NewReader(data), scratch); err != nil && err.Error() == "" {
			t.Error("an error without a message")
		}
		if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
			t.Errorf("left in scratch: %v, %v", left, err)
		}
	})
}
