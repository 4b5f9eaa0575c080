package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestResolve(t *testing.T) {
	v := newVolumes(t)
	image := imageOf(t,
		dir("dir", 0o2750, 0), file("file", "", 0o644, 0, nil), symlink("link", "dir"), dir("run", 0o1711, 0),
	)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string]map[string]string{
		"data": nil, "bound": {"type": "none", "o": "rbind,nosuid", "device": host}, "mem": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
		"gone": {"type": "none", "o": "bind", "device": host + "/gone"},
	} {
		if _, err := v.Create(t.Context(), CreateOptions{Name: name, Options: options}); err != nil {
			t.Fatal(err)
		}
	}
	data := v.Mountpoint("data")
	bind := func(target string, change func(*Mount)) Mount {
		m := Mount{Type: TypeBind, Source: host, Target: target}
		if change != nil {
			change(&m)
		}
		return m
	}
	for _, c := range []struct {
		m    Mount
		want string // type source options, or the error
	}{
		{bind("/m", nil), "bind " + host + " rbind,rprivate"},
		{bind("/m", func(m *Mount) { m.ReadOnly = true }), "bind " + host + " rbind,rro,rprivate"},
		{bind("/m", func(m *Mount) { m.ReadOnly, m.Recursive = true, RecursiveReadonly }), "bind " + host + " rbind,rro,rprivate"},
		{bind("/m", func(m *Mount) { m.ReadOnly, m.Recursive = true, RecursiveWritable }), "bind " + host + " rbind,ro,rprivate"},
		{bind("/m", func(m *Mount) { m.ReadOnly, m.Recursive = true, RecursiveDisabled }), "bind " + host + " bind,ro,rprivate"},
		{bind("/m", func(m *Mount) { m.Propagation = "rslave" }), "bind " + host + " rbind,rslave"},
		{bind("/dir", nil), "bind " + host + " rbind,rprivate"},
		{bind("/link", nil), "bind " + host + " rbind,rprivate"},
		{bind("/file", nil), "mount on /file: " + host + " is a directory and /file in the image a file"},
		{bind("/etc/hosts", nil), "mount on /etc/hosts: " + host + " is a directory and /etc/hosts in the image a file"},
		{bind("/dir", func(m *Mount) { m.Source += "/f" }), "mount on /dir: " + host + "/f is a file and /dir in the image a directory"},
		{bind("/m", func(m *Mount) { m.Source += "/new/dir"; m.CreateSource = true }), "bind " + host + "/new/dir rbind,rprivate"},
		{bind("/m", func(m *Mount) { m.Source += "/f/x"; m.CreateSource = true }), `mount on /m: invalid mount config for type "bind": stat ` + host + "/f/x: not a directory"},
		{bind("/m", func(m *Mount) { m.Source += "/no" }), `mount on /m: invalid mount config for type "bind": bind source path does not exist: ` + host + "/no"},
		{Mount{Type: TypeVolume, Source: "data", Target: "/m"}, "nacre-within " + data + "\x00. rbind,rprivate"},
		{Mount{Type: TypeVolume, Source: "data", Target: "/m", Subpath: "a/b", ReadOnly: true}, "nacre-within " + data + "\x00a/b rbind,rro,rprivate"},
		{Mount{Type: TypeVolume, Source: "data", Target: "/file"}, "mount on /file: volume data is a directory and /file in the image a file"},
		{Mount{Type: TypeVolume, Source: "missing", Target: "/m"}, "mount on /m: no such volume: missing"},
		{Mount{Type: TypeVolume, Source: "bound", Target: "/m", ReadOnly: true}, "bind " + host + " rbind,nosuid,rro,rprivate"},
		{Mount{Type: TypeVolume, Source: "bound", Target: "/m", Subpath: "x"}, "nacre-within " + host + "\x00x rbind,nosuid,rprivate"},
		{Mount{Type: TypeVolume, Source: "gone", Target: "/m"}, "mount on /m: volume gone: device: stat " + host + "/gone: no such file or directory"},
		{Mount{Type: TypeVolume, Source: "mem", Target: "/m", ReadOnly: true}, "tmpfs tmpfs size=1m,ro"},
		{Mount{Type: TypeVolume, Source: "mem", Target: "/m", Subpath: "x"}, "mount on /m: volume mem: of type=tmpfs there are no subpaths"},
		{Mount{Type: TypeTmpfs, Target: "/m"}, "tmpfs tmpfs nosuid,nodev,noexec"},
		{Mount{Type: TypeTmpfs, Target: "/run"}, "tmpfs tmpfs nosuid,nodev,noexec,mode=1711"},
		{Mount{Type: TypeTmpfs, Target: "/run", TmpfsOptions: []string{"exec", "mode=700"}, ReadOnly: true}, "tmpfs tmpfs nosuid,nodev,noexec,exec,mode=700,ro"},
		{Mount{Type: TypeTmpfs, Target: "/run", Size: 4096, Perm: ptr(0)}, "tmpfs tmpfs nosuid,nodev,noexec,size=4096,mode=0"},
		{Mount{Type: TypeImage, Source: "none", Target: "/m"}, "mount on /m: no such image"},
		{Mount{Type: TypeImage, Source: "some", Target: "/m", Subpath: "x", ReadOnly: true}, "tree /x ro,rprivate,nodev"},
		{Mount{Type: "npipe", Target: "/m"}, `mount on /m: mount type unknown: "npipe"`},
	} {
		r := Resolver{Volumes: v, Root: image, Image: func(_ context.Context, m Mount) (rootfs.Mount, error) {
			if m.Source == "none" {
				return rootfs.Mount{}, errors.New("no such image")
			}
			return rootfs.Mount{}, nil
		}}
		parts, err := r.Resolve(t.Context(), []Mount{c.m})
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case parts[0].tree != nil:
			got = "tree " + parts[0].tree.Path + " " + strings.Join(parts[0].spec.Options, ",")
		default:
			got = parts[0].spec.Type + " " + parts[0].spec.Source + " " + strings.Join(parts[0].spec.Options, ",")
		}
		if got != c.want {
			t.Errorf("%+v:\n got %q\nwant %q", c.m, got, c.want)
		}
	}
}

// What a user mounts takes the place of what is there by default, and of what is below that.
func TestAddTo(t *testing.T) {
	list := []Mount{
		{Type: TypeTmpfs, Target: "/a/b/c"}, {Type: TypeTmpfs, Target: "/dev"}, {Type: TypeTmpfs, Target: "/a"},
		{Type: TypeTmpfs, Target: "/etc/hosts.d"}, {Type: TypeTmpfs, Target: "/etc/hostname"}, {Type: TypeTmpfs, Target: "/sys/fs/cgroup"},
	}
	parts, err := Resolver{}.Resolve(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	c := sandbox.Config{
		Spec:  &specs.Spec{Mounts: sandbox.DefaultSpec(sandbox.SpecOptions{}).Mounts},
		Files: []sandbox.File{{Path: "/etc/hosts"}, {Path: "/etc/hostname"}},
	}
	parts.AddTo(&c)
	var got []string
	for _, m := range c.Spec.Mounts {
		got = append(got, m.Destination)
	}
	if want := []string{"/proc", "/sys", "/dev", "/a", "/etc/hosts.d", "/etc/hostname", "/a/b/c", "/sys/fs/cgroup"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(c.Files) != 1 || c.Files[0].Path != "/etc/hosts" {
		t.Errorf("files are %+v", c.Files)
	}
}

func TestInspect(t *testing.T) {
	v := newVolumes(t)
	f := Flags{
		Volumes: []string{"/h:/a:ro,z", "data:/b", "/c"}, Tmpfs: []string{"/d:size=1m"},
		Mounts: []string{"type=bind,src=/i,dst=/e,bind-propagation=rshared", "src=vol,dst=/f,volume-nocopy,volume-label=a=b", "type=tmpfs,dst=/g,tmpfs-size=4k,tmpfs-mode=700"},
	}
	list, err := f.Parse()
	if err != nil {
		t.Fatal(err)
	}
	list[2].Source, list[2].Anonymous = "0123", true
	if got := strings.Join(Binds(list), " "); got != "/h:/a:ro,z data:/b" {
		t.Errorf("binds %s", got)
	}
	if got := Tmpfs(list); len(got) != 1 || got["/d"] != "size=1m" {
		t.Errorf("tmpfs %v", got)
	}
	points := v.Points(list)
	if p := points[0]; p != (Point{Type: "bind", Source: "/h", Destination: "/a", Mode: "ro,z", Propagation: "rprivate"}) {
		t.Errorf("%+v", p)
	}
	if p := points[1]; p != (Point{Type: "volume", Name: "data", Source: v.Mountpoint("data"), Destination: "/b", Driver: "local", RW: true}) {
		t.Errorf("%+v", p)
	}
	host := HostMounts(list)
	if len(host) != 3 || host[0].BindOptions["Propagation"] != "rshared" || host[1].VolumeOptions["NoCopy"] != true || host[2].TmpfsOptions["SizeBytes"] != int64(4096) || host[2].TmpfsOptions["Mode"] != uint32(0o700) {
		t.Errorf("%+v", host)
	}
}

var _ Store = folder{}
