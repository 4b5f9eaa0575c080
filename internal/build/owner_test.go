package build

import (
	"archive/tar"
	"bytes"
	"maps"
	"slices"
	"testing"

	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

const accounts = "COPY <<passwd <<group /etc/\nroot:x:0:0::/root:/bin/sh\napp:x:7:8::/:/bin/sh\npasswd\nroot:x:0:\nstaff:x:9:\ngroup\n"

// TestOwners: who gets what, by name and number, known to the image or not.
func TestOwners(t *testing.T) {
	b := newBench(t, map[string]string{"f": "x"})
	for _, c := range []struct {
		spec     string
		uid, gid int
		unknown  bool // --chown refuses it
	}{
		{"app", 7, 8, false},
		{"app:staff", 7, 9, false},
		{"app:1", 7, 1, false},
		{"7", 7, 7, false}, // not the group that etc/passwd has for it
		{"7:staff", 7, 9, false},
		{"3:4", 3, 4, false},
		{"root", 0, 0, false},
		{"gone", 0, 0, true},
		{"gone:staff", 0, 9, true},
		{"app:gone", 7, 8, true},
	} {
		out := b.build("FROM scratch\n" + accounts + "USER " + c.spec + "\nWORKDIR /w/d\n")
		for _, dir := range []string{"w", "w/d"} {
			if st := stat(t, b, out, dir); st.UID != c.uid || st.GID != c.gid {
				t.Errorf("USER %s, WORKDIR: /%s belongs to %d:%d, want %d:%d", c.spec, dir, st.UID, st.GID, c.uid, c.gid)
			}
		}
		out, err := b.try("FROM scratch\n" + accounts + "COPY --chown=" + c.spec + " f /f\n")
		if (err != nil) != c.unknown {
			t.Errorf("--chown=%s: %v", c.spec, err)
		}
		if err != nil {
			continue
		}
		if st := stat(t, b, out, "f"); st.UID != c.uid || st.GID != c.gid {
			t.Errorf("--chown=%s: %d:%d, want %d:%d", c.spec, st.UID, st.GID, c.uid, c.gid)
		}
	}
}

func stat(t *testing.T, b *bench, o outcome, name string) *layer.Stat {
	t.Helper()
	info, err := b.root(o).Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*layer.Stat)
}

// TestCopiedXattrs: capabilities are copied, from wherever; notes of this machine are not.
func TestCopiedXattrs(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	xattrs := map[string]string{"user.origin": "https://example.com/f", "security.capability": capability}
	b := newBench(t, map[string]string{"f": "x", "x.tar": oneFileTar(t, xattrs)})
	for name, value := range xattrs {
		if err := unix.Setxattr(b.dir+"/f", name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	out := b.build("FROM scratch AS a\nCOPY f /copied\nADD x.tar /\nFROM scratch\nCOPY --from=a / /\n")
	for _, name := range []string{"copied", "f"} {
		got := stat(t, b, out, name).Xattrs
		if want := []string{"security.capability"}; !slices.Equal(slices.Sorted(maps.Keys(got)), want) || got[want[0]] != capability {
			t.Errorf("%s has attributes %q, want %q only", name, got, want)
		}
	}
}

func oneFileTar(t *testing.T, xattrs map[string]string) string {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	records := map[string]string{}
	for name, value := range xattrs {
		records["SCHILY.xattr."+name] = value
	}
	if err := tw.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: 1, PAXRecords: records}); err != nil {
		t.Fatal(err)
	}
	tw.Write([]byte("x"))
	tw.Close()
	return buf.String()
}

// TestAddThroughSymlink: entries of an archive go through its own symlinks, as tar puts them, and where
// they lead is seen from where ADD unpacks it. The root's entry, whatever it is, changes nothing.
func TestAddThroughSymlink(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 9},
		{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../../.."},
		{Name: "up/etc/f", Typeflag: tar.TypeReg, Mode: 0o600},
		{Name: "abs", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
		{Name: "abs/g", Typeflag: tar.TypeReg, Mode: 0o600},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	tw.Close()
	b := newBench(t, map[string]string{"x.tar": buf.String()})
	out := b.build("FROM scratch\n" + accounts + "WORKDIR /opt\nADD x.tar /opt/\n")
	for _, name := range []string{"opt/etc/f", "opt/etc/g"} {
		stat(t, b, out, name)
	}
	if st := stat(t, b, out, "opt"); st.Mode&0o777 != 0o755 || st.UID != 0 {
		t.Errorf("/opt became %o of user %d", st.Mode&0o777, st.UID)
	}
	for _, name := range []string{"etc/f", "etc/g"} {
		if _, err := b.root(out).Lstat(name); err == nil {
			t.Errorf("/%s: the archive left /opt", name)
		}
	}
}
