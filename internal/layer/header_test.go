package layer

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// goHeader writes with archive/tar what appendEntry should write.
func goHeader(t testing.TB, name, target string, n *inode) []byte {
	t.Helper()
	h := &tar.Header{
		Name: name, Linkname: n.link(), Mode: int64(n.mode & 0o7777), Uid: int(n.uid), Gid: int(n.gid),
		ModTime: time.Unix(n.sec, 0),
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, n.size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		major, minor := decodeDev(n.rdev)
		h.Devmajor, h.Devminor = int64(major), int64(minor)
	}
	for _, x := range n.xattrs() {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+x.name] = x.value
	}
	if target != "" {
		h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, target, 0, nil
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Canonical headers are, byte for byte, those of Go's writer.
func TestHeaderEqualsGo(t *testing.T) {
	reg := func(change func(n *inode)) *inode {
		n := &inode{mode: unix.S_IFREG | 0o644, sec: 1700000000, size: 10}
		if change != nil {
			change(n)
		}
		return n
	}
	dir := &inode{mode: unix.S_IFDIR | 0o755}
	long := func(n int) string { return strings.Repeat("n", n) }
	for _, c := range []struct {
		what, name, target string
		n                  *inode
	}{
		{"plain", "etc/passwd", "", reg(nil)},
		{"root", ".", "", dir},
		{"directory", "usr/share", "", dir},
		{"name of 100", long(100), "", reg(nil)},
		{"name of 101", long(101), "", reg(nil)},
		{"splits", long(80) + "/" + long(80), "", reg(nil)},
		{"splits at 155", long(155) + "/" + long(100), "", reg(nil)},
		{"prefix of 156", long(156) + "/" + long(90), "", reg(nil)},
		{"rest of 101", long(50) + "/" + long(101), "", reg(nil)},
		{"directory at the border", long(99), "", dir},
		{"directory of 100", long(100), "", dir},
		{"directory that splits", long(60) + "/" + long(60), "", dir},
		{"long directory", strings.Repeat(long(60)+"/", 6) + "x", "", dir},
		{"cut at a slash", long(99) + "/" + long(120), "", reg(nil)},
		{"splits, but has records", long(80) + "/" + long(80), "", reg(func(n *inode) { n.uid = 1 << 30 })},
		{"splits, but is big", long(80) + "/" + long(80), "", reg(func(n *inode) { n.size = 1 << 40 })},
		{"umlaut", "grün/äpfel", "", reg(nil)},
		{"not UTF-8", "a\xff\xfeb", "", reg(nil)},
		{"umlaut directory", "grün", "", dir},
		{"symlink", "l", "", &inode{mode: unix.S_IFLNK | 0o777, rare: &rare{link: "target/of/it"}}},
		{"symlink of 100", "l", "", &inode{mode: unix.S_IFLNK | 0o777, rare: &rare{link: long(100)}}},
		{"symlink of 101", "l", "", &inode{mode: unix.S_IFLNK | 0o777, rare: &rare{link: long(101)}}},
		{"symlink cut at a slash", "l", "", &inode{mode: unix.S_IFLNK | 0o777, rare: &rare{link: long(99) + "/" + long(9)}}},
		{"symlink not ASCII", "l", "", &inode{mode: unix.S_IFLNK | 0o777, rare: &rare{link: "zü"}}},
		{"hard link", "h", "etc/passwd", reg(func(n *inode) { n.uncommon().xattrs = []xattr{{"user.a", "b"}} })},
		{"long hard link", "h", strings.Repeat("d/", 70) + "f", reg(nil)},
		{"fifo", "p", "", &inode{mode: unix.S_IFIFO | 0o600}},
		{"char", "null", "", &inode{mode: unix.S_IFCHR | 0o666, rdev: encodeDev(1, 3)}},
		{"block", "nvme", "", &inode{mode: unix.S_IFBLK | 0o660, rdev: encodeDev(4095, 1<<20-1)}},
		{"setuid", "su", "", reg(func(n *inode) { n.mode |= 0o7000 })},
		{"uid fits", "u", "", reg(func(n *inode) { n.uid, n.gid = 0o7777777, 0o7777777 })},
		{"uid does not", "u", "", reg(func(n *inode) { n.uid, n.gid = 0o10000000, 4294967294 })},
		{"8 GiB less one", "s", "", reg(func(n *inode) { n.size = 8<<30 - 1 })},
		{"8 GiB", "s", "", reg(func(n *inode) { n.size = 8 << 30 })},
		{"1969", "s", "", reg(func(n *inode) { n.sec = -1 })},
		{"2242", "s", "", reg(func(n *inode) { n.sec = 1<<33 - 1 })},
		{"2243", "s", "", reg(func(n *inode) { n.sec = 1 << 33 })},
		{"xattrs", "x", "", reg(func(n *inode) {
			n.uncommon().xattrs = []xattr{{"security.capability", "\x00\x01\n="}, {"user.a", ""}, {"user.long", long(990)}}
		})},
		{"everything", "grün/" + long(200), "", reg(func(n *inode) {
			n.uid, n.gid, n.sec, n.size = 1<<31, 1<<31, -5, 1<<40
			n.uncommon().xattrs = []xattr{{"user.a", long(97)}, {"user.b", long(98)}}
		})},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := appendEntry(nil, c.name, c.target, c.n)
			if err != nil {
				t.Fatal(err)
			}
			if want := goHeader(t, c.name, c.target, c.n); !bytes.Equal(got, want) {
				t.Errorf("got\n%q\nwant\n%q", got, want)
			}
		})
	}
}

// The length of a PAX record counts its own digits.
func TestRecordLength(t *testing.T) {
	for n := range 2000 {
		rec := string(appendRecord(nil, "path", strings.Repeat("v", n)))
		key, value, rest, ok := cutRecord(rec)
		if !ok || key != "path" || len(value) != n || rest != "" {
			t.Fatalf("%d: %q, %t", n, rec, ok)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("a/b", "", uint32(unix.S_IFREG|0o644), uint32(0), int64(0), int64(5), "", "")
	f.Add(strings.Repeat("n/", 90)+"x", strings.Repeat("t", 130), uint32(unix.S_IFLNK), uint32(1<<30), int64(-1), int64(0), "user.a", "b")
	f.Add(".", "", uint32(unix.S_IFLNK), uint32(1<<30), int64(0), int64(0), "user.a", "b")
	f.Add(".", "", uint32(unix.S_IFDIR), uint32(1<<30), int64(0), int64(0), "user.a", "b")
	f.Fuzz(func(t *testing.T, name, link string, mode, id uint32, sec, size int64, xname, xvalue string) {
		e := Entry{Name: name, Link: link, Mode: mode, UID: int(id), GID: int(id), Size: size, ModTime: time.Unix(sec, 0)}
		if xname != "" {
			e.Xattrs = map[string]string{xname: xvalue}
		}
		n, err := newInode(&e)
		if err != nil || !isClean(name) || strings.Contains(xname, "=") || n.mode&unix.S_IFMT == unix.S_IFREG && strings.HasSuffix(name, "/") {
			return
		}
		// Go takes the year 1 for no time at all.
		if time.Unix(sec, 0).IsZero() {
			return
		}
		got, err := appendEntry(nil, name, "", n)
		if err != nil {
			t.Fatal(err)
		}
		if want := goHeader(t, name, "", n); !bytes.Equal(got, want) {
			t.Errorf("got\n%q\nwant\n%q", got, want)
		}
	})
}
