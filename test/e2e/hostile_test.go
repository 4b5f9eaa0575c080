package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entry is a tar header with its content.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}, body}
}

func link(kind byte, name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Mode: 0o777, Typeflag: kind}, ""}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// dockerArchive wraps a layer as docker save does, with the config naming diffID.
func dockerArchive(t testing.TB, layer []byte, diffID string) []byte {
	t.Helper()
	config, _ := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": []string{"/a"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{diffID}},
	})
	name := strings.TrimPrefix(digestOf(config), "sha256:") + ".json"
	manifest, _ := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{"evil:latest"}, "Layers": []string{"l/layer.tar"}}})
	return tarOf(t, file(name, string(config)), file("l/layer.tar", string(layer)), file("manifest.json", string(manifest)))
}

// TestHostileLayer: a layer that the image specification does not allow, or that lies, is
// refused with words that name its entry, by load and by import alike; nothing is written
// outside of the store, and nothing of it stays in it.
func TestHostileLayer(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.ok(t, "images")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	before := listing(t, s.root)
	lying := tarOf(t, file("a", "short"))
	copy(lying[124:136], fmt.Sprintf("%011o\x00", 1<<20)) // the header's size field says a megabyte
	fixChecksum(lying[:512])
	for _, c := range []struct {
		name  string
		layer []byte
		want  string
	}{
		{"dots", tarOf(t, file("a", "a"), file("../../../../../../../../"+outside+"/x", "x")), `\.\.`},
		{"dots inside", tarOf(t, file("a/../../b", "b")), `a/\.\./\.\./b`},
		{"file through a link", tarOf(t, link(tar.TypeSymlink, "way", outside), file("way/x", "x")), `way/x`},
		{"file through an absolute link's child", tarOf(t, link(tar.TypeSymlink, "a/way", ".."), file("a/way/x", "x")), `a/way/x`},
		{"hard link outside", tarOf(t, link(tar.TypeLink, "shadow", "../../../../../etc/shadow")), `shadow`},
		{"hard link to nothing", tarOf(t, link(tar.TypeLink, "b", "nothing")), `nothing`},
		{"lying size", lying, `(?i)unexpected EOF|truncated`},
		{"truncated", tarOf(t, file("a", strings.Repeat("x", 5000)))[:2048], `(?i)unexpected EOF|truncated`},
		{"truncated gzip", gzipped(t, tarOf(t, file("a", strings.Repeat("xyz", 50000))), 40), `(?i)unexpected EOF|truncated`},
		{"not a tar", []byte(strings.Repeat("this is no tar. ", 100)), `(?i)tar|header|format`},
		{"whiteout of nothing", tarOf(t, file(".wh.", "")), `\.wh\.`},
		{"whiteout of all", tarOf(t, file("d/.wh...", "")), `\.wh\.`},
		{"NUL in a link", nulLink(t), `(?i)NUL|header|invalid`},
		{"a name too long", tarOf(t, file(strings.Repeat("n", 300), "")), `(?i)long|255`},
		{"a path too long", tarOf(t, file(strings.Repeat("dir/", 2000)+"x", "")), `(?i)long|4096|name of 8001 bytes`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for verb, data := range map[string][]byte{"import": c.layer, "load": dockerArchive(t, c.layer, digestOf(c.layer))} {
				path := filepath.Join(t.TempDir(), verb+".tar")
				if err := os.WriteFile(path, data, 0o644); err != nil {
					t.Fatal(err)
				}
				if verb == "load" {
					s.fails(t, 1, []string{c.want}, "load", "-i", path)
				} else {
					s.fails(t, 1, []string{c.want}, "import", path, "evil")
				}
			}
		})
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("files were written outside: %v", left)
	}
	if got := s.ok(t, "images", "-q"); got != "" {
		t.Errorf("images came of it: %s", got)
	}
	s.check(t)
	// Configs that came before a bad layer may stay until the next prune; nothing after it.
	s.ok(t, "system", "prune", "-f")
	if after := listing(t, s.root); after != before {
		t.Errorf("the store holds what it did not before:\n%s\nbefore:\n%s", after, before)
	}
}

// TestOddLayer: what looks bad and is allowed is taken as others take it.
func TestOddLayer(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	layer := tarOf(t,
		file("/abs/olute", "absolute\n"), // a leading slash means the root of the image
		file("./dot", "dot\n"),
		file("twice", "first\n"), file("twice", "second, and last\n"),
		link(tar.TypeSymlink, "out", "/etc/passwd"), // a link may point where it likes
		entry{tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
		entry{tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600}, ""},
		file("was/file", "x"), link(tar.TypeSymlink, "was", "elsewhere"), // a folder becomes a link
	)
	path := filepath.Join(t.TempDir(), "odd.tar")
	os.WriteFile(path, dockerArchive(t, layer, digestOf(layer)), 0o644)
	s.ok(t, "load", "-i", path)
	s.check(t)
	out := t.TempDir()
	s.build(t, "copied", writeFiles(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=evil / /\n"}))
	s.ok(t, "save", "-o", out+"/c.tar", "copied")
	tool(t, "skopeo", "--insecure-policy", "copy", "-q", "docker-archive:"+out+"/c.tar", "oci:"+out+"/layout:c")
	tool(t, "umoci", "unpack", "--image", out+"/layout:c", out+"/bundle")
	root := out + "/bundle/rootfs/"
	for name, want := range map[string]string{"abs/olute": "absolute\n", "dot": "dot\n", "twice": "second, and last\n"} {
		if got, err := os.ReadFile(root + name); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if got, _ := os.Readlink(root + "out"); got != "/etc/passwd" {
		t.Errorf("out points to %q", got)
	}
	if got, _ := os.Readlink(root + "was"); got != "elsewhere" {
		t.Errorf("was points to %q", got)
	}
}

// TestDeviceAsUser: an ordinary user may keep and hand on an image with devices; none is
// made on this machine.
func TestDeviceAsUser(t *testing.T) {
	t.Parallel()
	s, home := newConfined(t)
	path := filepath.Join(home, "dev.tar")
	layer := tarOf(t, file("a", "a"), entry{tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 8}, ""})
	os.WriteFile(path, layer, 0o644)
	s.ok(t, "import", path, "dev")
	s.ok(t, "save", "-o", home+"/out.tar", "dev")
	filepath.WalkDir(s.root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeDevice != 0 {
			t.Errorf("%s is a device", p)
		}
		return nil
	})
}

// TestWrongDigest: content that is not what its name says is refused.
func TestWrongDigest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	good := tarOf(t, file("a", "good"))
	bad := tarOf(t, file("a", "evil"))
	path := filepath.Join(t.TempDir(), "a.tar")
	os.WriteFile(path, dockerArchive(t, bad, digestOf(good)), 0o644)
	s.fails(t, 1, []string{`(?i)digest|diff ?ID`}, "load", "-i", path)

	// The same in an OCI layout: a flipped bit in any blob is noticed.
	b := newBusybox(t)
	id := sample(t, b, "sample:1")
	b.ok(t, "save", "-o", path, "sample:1")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("GREETING=hello")) // in the config
	data[at+9] ^= 1
	os.WriteFile(path, data, 0o644)
	s.fails(t, 1, []string{`(?i)digest`}, "load", "-i", path)
	data[at+9] ^= 1
	data[len(data)/2] ^= 1 // in a layer: busybox's is by far the longest
	os.WriteFile(path, data, 0o644)
	s.fails(t, 1, []string{`(?i)digest|diff ?ID|checksum|header`}, "load", "-i", path)
	data[len(data)/2] ^= 1
	os.WriteFile(path, data[:len(data)/3], 0o644)
	s.fails(t, 1, []string{`(?i)unexpected EOF|truncated|not found`}, "load", "-i", path)
	os.WriteFile(path, data, 0o644)
	s.ok(t, "load", "-i", path)
	if got := s.inspect(t, "sample:1", "{{.Id}}"); got != id {
		t.Errorf("the image is %s, was %s", got, id)
	}
	s.check(t)
}

// TestHostileArchive: names inside an archive that lead out of it.
func TestHostileArchive(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, manifest := range map[string]string{
		"config outside": `[{"Config":"../../../../etc/passwd","RepoTags":["x:1"],"Layers":[]}]`,
		"layer outside":  `[{"Config":"c.json","RepoTags":["x:1"],"Layers":["../../../../etc/passwd"]}]`,
		"absolute":       `[{"Config":"/etc/passwd","RepoTags":["x:1"],"Layers":[]}]`,
		"layer missing":  `[{"Config":"c.json","RepoTags":["x:1"],"Layers":["gone/layer.tar"]}]`,
		"bad name":       `[{"Config":"c.json","RepoTags":["UPPER/../x"],"Layers":[]}]`,
		"no JSON":        `[{"Config":`,
		"not a list":     `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.tar")
			os.WriteFile(path, tarOf(t, file("c.json", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["`+digestOf(nil)+`"]}}`),
				file("manifest.json", manifest)), 0o644)
			text := s.fails(t, 1, nil, "load", "-i", path)
			if !strings.Contains(text, "error:") || strings.Contains(text, "root:x:0") {
				t.Errorf("it says %s", text)
			}
		})
	}
	empty := filepath.Join(t.TempDir(), "empty")
	os.WriteFile(empty, nil, 0o644)
	s.fails(t, 1, []string{`error:`}, "load", "-i", empty)
	s.fails(t, 1, []string{`(?i)no such file`}, "load", "-i", empty+"-gone")
	if got := s.ok(t, "images", "-q", "-a"); got != "" {
		t.Errorf("images came of it: %s", got)
	}
	s.check(t)
}

// TestBomb: ten gigabytes of zeros in ten megabytes are refused before they are written.
func TestBomb(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	path := filepath.Join(t.TempDir(), "bomb.tar.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Gzip members follow one another: one hundred times the same hundred megabytes.
	var head, block bytes.Buffer
	w := gzip.NewWriter(&head)
	h := tar.Header{Name: "zeros", Mode: 0o644, Size: 100 * 100 << 20, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := tar.NewWriter(w).WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	w.Close()
	w = gzip.NewWriter(&block)
	zeros := make([]byte, 1<<20)
	for range 100 {
		w.Write(zeros)
	}
	w.Close()
	f.Write(head.Bytes())
	for range 100 {
		f.Write(block.Bytes())
	}
	s.fails(t, 1, []string{`(?i)bomb|limit|ratio|times|expands|too (large|big|much)`}, "import", path, "bomb")
	if size := tool(t, "du", "-sk", s.root); len(strings.Fields(size)[0]) > 5 { // 100 MB in KB has six digits
		t.Errorf("the store has grown to %s KB", size)
	}
	s.check(t)
}

func gzipped(t testing.TB, data []byte, cut int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(data)
	w.Close()
	return buf.Bytes()[:buf.Len()-cut]
}

// nulLink is a PAX header that smuggles a NUL into a link's target.
func nulLink(t testing.TB) []byte {
	t.Helper()
	data := tarOf(t, entry{tar.Header{Name: "l", Linkname: strings.Repeat("x", 120), Typeflag: tar.TypeSymlink, Format: tar.FormatPAX}, ""})
	at := bytes.Index(data, []byte("linkpath="))
	data[at+len("linkpath=")+3] = 0
	return data
}

func fixChecksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// listing names everything in a store but its database's own files and the space it
// keeps in reserve.
func listing(t testing.TB, root string) string {
	t.Helper()
	var names []string
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !strings.Contains(d.Name(), ".db") && d.Name() != "reserve" {
			rel, _ := filepath.Rel(root, p)
			names = append(names, rel)
		}
		return nil
	})
	return strings.Join(names, "\n")
}
