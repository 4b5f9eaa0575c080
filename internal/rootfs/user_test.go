package rootfs

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
# comment
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

app:x:1000:1000:App,,,:/home/app:/bin/sh
twin:x:1000:1001::/twin:/bin/twin
1234:x:77:78::/odd:
nohome:x:88:88:::
`

const group = `root:x:0:
app:x:1000:
wheel:x:10:root,app
audio:x:29:app,twin
4321:x:99:
`

func TestLookupUser(t *testing.T) {
	s := newSource(t, false)
	full := s.merged(s.add(dir("etc"), file("etc/passwd", passwd), file("etc/group", group)))
	bare := NewFS()
	linked := s.merged(s.add(symlink("etc", "/private/etc"), dir("private"), dir("private/etc"), file("private/etc/passwd", passwd), symlink("private/etc/group", "/nowhere")))
	odd := s.merged(s.add(dir("etc"), dir("etc/passwd")))
	pipe := s.merged(s.add(dir("etc"), device("etc/passwd", unix.S_IFIFO, 0, 0)))
	for _, c := range []struct {
		root *FS
		spec string
		want User
		err  string
	}{
		{full, "", User{0, 0, []int{10}, "/root", "root", "/bin/bash"}, ""},
		{full, "root", User{0, 0, []int{10}, "/root", "root", "/bin/bash"}, ""},
		{full, "app", User{1000, 1000, []int{10, 29}, "/home/app", "app", "/bin/sh"}, ""},
		{full, "1000", User{1000, 1000, []int{10, 29}, "/home/app", "app", "/bin/sh"}, ""},
		{full, "twin", User{1000, 1001, []int{29}, "/twin", "twin", "/bin/twin"}, ""},
		{full, "app:wheel", User{1000, 10, nil, "/home/app", "app", "/bin/sh"}, ""},
		{full, "app:5", User{1000, 5, nil, "/home/app", "app", "/bin/sh"}, ""},
		{full, ":wheel", User{0, 10, nil, "/root", "root", "/bin/bash"}, ""},
		{full, "5555", User{5555, 0, nil, "/", "", ""}, ""},
		{full, "5555:6666", User{5555, 6666, nil, "/", "", ""}, ""},
		{full, "1234", User{1234, 0, nil, "/", "", ""}, ""},
		{full, "root:4321", User{0, 4321, nil, "/root", "root", "/bin/bash"}, ""},
		{full, "nohome", User{88, 88, nil, "/", "nohome", ""}, ""},
		{full, "nobody", User{}, "unable to find user nobody"},
		{full, "app:nogroup", User{}, "unable to find group nogroup"},
		{full, "-1", User{}, "-1"},
		{full, "2147483648", User{}, "2147483648"},
		{bare, "", User{0, 0, nil, "/", "", ""}, ""},
		{bare, "7:8", User{7, 8, nil, "/", "", ""}, ""},
		{bare, "app", User{}, "unable to find user app"},
		{linked, "app", User{1000, 1000, nil, "/home/app", "app", "/bin/sh"}, ""},
		{odd, "app", User{}, "is a directory"},
		{pipe, "app", User{}, "etc/passwd"},
	} {
		got, err := LookupUser(c.root, c.spec)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.spec, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.spec, err)
			continue
		}
		if !slices.Equal(got.Groups, c.want.Groups) || got.UID != c.want.UID || got.GID != c.want.GID ||
			got.Home != c.want.Home || got.Name != c.want.Name || got.Shell != c.want.Shell {
			t.Errorf("%q: %+v, want %+v", c.spec, got, c.want)
		}
	}
}

// TestLookupProcess: accounts that cannot be read are needed by names alone.
func TestLookupProcess(t *testing.T) {
	s := newSource(t, false)
	pipe := s.merged(s.add(dir("etc"), device("etc/passwd", unix.S_IFIFO, 0, 0), device("etc/group", unix.S_IFIFO, 0, 0)))
	odd := s.merged(s.add(dir("etc"), dir("etc/passwd"), file("etc/group", group)))
	full := s.merged(s.add(dir("etc"), file("etc/passwd", passwd), file("etc/group", group)))
	for _, root := range []*FS{pipe, odd} {
		for spec, want := range map[string][2]int{"": {}, "root": {}, "0": {}, "root:7": {0, 7}, "5": {5, 0}, "5:6": {5, 6}, ":6": {0, 6}} {
			got, err := LookupProcess(root, spec)
			if err != nil || got.UID != want[0] || got.GID != want[1] || got.Home != "/" || len(got.Groups) > 0 {
				t.Errorf("%q: %+v, %v", spec, got, err)
			}
		}
		for _, spec := range []string{"app", "5:nogroup", "-1", "2147483648"} {
			if got, err := LookupProcess(root, spec); err == nil {
				t.Errorf("%q: %+v", spec, got)
			}
		}
	}
	if got, err := LookupProcess(full, "root"); err != nil || got.Home != "/root" || !slices.Equal(got.Groups, []int{10}) {
		t.Errorf("with accounts: %+v, %v", got, err)
	}
	if _, err := LookupProcess(full, "nobody"); err == nil || !strings.Contains(err.Error(), "unable to find user nobody") {
		t.Errorf("a name that is not there: %v", err)
	}
}
