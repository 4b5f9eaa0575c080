package volume

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func ptr(n uint32) *uint32 { return &n }

func TestParseVolume(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   string
		want Mount
		err  string
	}{
		{in: "/v", want: Mount{Type: TypeVolume, Target: "/v"}},
		{in: "/v/", want: Mount{Type: TypeVolume, Target: "/v"}},
		{in: "data:/v", want: Mount{Type: TypeVolume, Source: "data", Target: "/v"}},
		{in: "data:/v:ro", want: Mount{Type: TypeVolume, Source: "data", Target: "/v", ReadOnly: true, Mode: "ro"}},
		{in: "data:/v:nocopy,ro", want: Mount{Type: TypeVolume, Source: "data", Target: "/v", ReadOnly: true, NoCopy: true, Mode: "nocopy,ro"}},
		{in: "data:/v:z", want: Mount{Type: TypeVolume, Source: "data", Target: "/v", Mode: "z"}},
		{in: "/h:/v", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", CreateSource: true}},
		{in: "/h/../i/:/v//w/..", want: Mount{Type: TypeBind, Source: "/i", Target: "/v", CreateSource: true}},
		{in: "/h:/v:rw,Z,rshared", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", CreateSource: true, Propagation: "rshared", Mode: "rw,Z,rshared"}},
		{in: "/h:/v:cached", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", CreateSource: true, Mode: "cached"}},
		{in: ".:/v", want: Mount{Type: TypeBind, Source: wd, Target: "/v", CreateSource: true}},
		{in: "./h:/v", want: Mount{Type: TypeBind, Source: filepath.Join(wd, "h"), Target: "/v", CreateSource: true}},
		{in: "../h:/v", want: Mount{Type: TypeBind, Source: filepath.Join(filepath.Dir(wd), "h"), Target: "/v", CreateSource: true}},
		{in: "/h:/ro", want: Mount{Type: TypeBind, Source: "/h", Target: "/ro", CreateSource: true}},

		{in: "", err: "something is missing"},
		{in: ":/v", err: "something is missing"},
		{in: "/h:", err: "something is missing"},
		{in: "/h:/v:", err: "something is missing"},
		{in: "/h:/v:ro:rw", err: "too many colons"},
		{in: "/v:ro", err: "invalid volume specification"},
		{in: "data:nocopy,ro", err: "invalid volume specification"},
		{in: "v", err: "mount path must be absolute"},
		{in: "data:v", err: "mount path must be absolute"},
		{in: "/h:/", err: "destination can't be '/'"},
		{in: "/h:/v/..", err: "destination can't be '/'"},
		{in: "/h:/v:bogus", err: "invalid mode: bogus"},
		{in: "/h:/v:ro,rw", err: "invalid mode: ro,rw"},
		{in: "/h:/v:ro,,z", err: "invalid mode"},
		{in: "/h:/v:RO", err: "invalid mode"},
		{in: "/h:/v:shared,slave", err: "invalid mode"},
		{in: "/h:/v:nocopy", err: "nocopy is for volumes"},
		{in: "data:/v:rshared", err: "rshared is for directories"},
		{in: "~/x:/v", err: "$HOME"},
		{in: "~joe:/v", err: "$HOME"},
		{in: "d/e:/v", err: "invalid characters for a local volume name"},
		{in: "d/../../e:/v", err: "write ./d/../../e"},
		{in: "a:/v", err: "too short"},
		{in: ".x:/v", err: "invalid characters"},
		{in: "-x:/v", err: "invalid characters"},
		{in: strings.Repeat("n", 300) + ":/v", err: "is too long: 300 bytes"},
		{in: strings.Repeat("n", 255) + ":/v", want: Mount{Type: TypeVolume, Source: strings.Repeat("n", 255), Target: "/v"}},
		{in: "data:/v\x00w", err: "NUL"},
	} {
		if c.err == "" {
			c.want.Flag = "volume"
		}
		check(t, c.in, ParseVolume, c.want, c.err)
	}
}

func check(t *testing.T, in string, parse func(string) (Mount, error), want Mount, text string) {
	t.Helper()
	got, err := parse(in)
	switch {
	case text != "" && (err == nil || !strings.Contains(err.Error(), text)):
		t.Errorf("%q: error %v, want %q", in, err, text)
	case text == "" && err != nil:
		t.Errorf("%q: %v", in, err)
	case text == "" && !reflect.DeepEqual(got, want):
		t.Errorf("%q:\n got %+v\nwant %+v", in, got, want)
	}
}

func TestParseMount(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   string
		want Mount
		err  string
	}{
		{in: "type=bind,source=/h,target=/v", want: Mount{Type: TypeBind, Source: "/h", Target: "/v"}},
		{in: "type=bind,src=./h,dst=/v", want: Mount{Type: TypeBind, Source: filepath.Join(wd, "h"), Target: "/v"}},
		{in: "TYPE=BIND,Src=/h,destination=/v,readonly", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", ReadOnly: true}},
		{in: "type=bind,src=/h,dst=/v,ro=1", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", ReadOnly: true}},
		{in: "type=bind,src=/h,dst=/v,readonly=false", want: Mount{Type: TypeBind, Source: "/h", Target: "/v"}},
		{in: "type=bind,src=/h,dst=/v,bind-propagation=rslave", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", Propagation: "rslave"}},
		{in: "type=bind,src=/h,dst=/v,bind-nonrecursive", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", Recursive: RecursiveDisabled}},
		{in: "type=bind,src=/h,dst=/v,bind-recursive=disabled", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", Recursive: RecursiveDisabled}},
		{in: "type=bind,src=/h,dst=/v,bind-recursive=enabled", want: Mount{Type: TypeBind, Source: "/h", Target: "/v"}},
		{in: "type=bind,src=/h,dst=/v,ro,bind-recursive=writable", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", ReadOnly: true, Recursive: RecursiveWritable}},
		{in: "type=bind,src=/h,dst=/v,ro,bind-recursive=readonly,bind-propagation=rprivate", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", ReadOnly: true, Recursive: RecursiveReadonly, Propagation: "rprivate"}},
		{in: "type=bind,src=/h,dst=/v,bind-create-src", want: Mount{Type: TypeBind, Source: "/h", Target: "/v", CreateSource: true}},
		{in: "type=bind,src=/h:i,dst=/v:w,consistency=cached", want: Mount{Type: TypeBind, Source: "/h:i", Target: "/v:w"}},
		{in: `type=bind,"src=/a,b",dst=/v`, want: Mount{Type: TypeBind, Source: "/a,b", Target: "/v"}},
		{in: "dst=/v", want: Mount{Type: TypeVolume, Target: "/v"}},
		{in: "src=data,dst=/v,volume-nocopy", want: Mount{Type: TypeVolume, Source: "data", Target: "/v", NoCopy: true}},
		{in: "type=volume,src=data,dst=/v,volume-label=a=b,volume-label=c,volume-driver=local,volume-subpath=x/y", want: Mount{
			Type: TypeVolume, Source: "data", Target: "/v", Labels: map[string]string{"a": "b", "c": ""}, Driver: "local", Subpath: "x/y"}},
		{in: `src=data,dst=/v,volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=size=1m,mode=700"`, want: Mount{
			Type: TypeVolume, Source: "data", Target: "/v", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"}}},
		{in: "type=tmpfs,dst=/v", want: Mount{Type: TypeTmpfs, Target: "/v"}},
		{in: "type=tmpfs,dst=/v,tmpfs-size=64m,tmpfs-mode=1770", want: Mount{Type: TypeTmpfs, Target: "/v", Size: 64 << 20, Perm: ptr(0o1770)}},
		{in: "type=image,src=busybox:1,dst=/v,image-subpath=bin", want: Mount{Type: TypeImage, Source: "busybox:1", Target: "/v", Subpath: "bin", ReadOnly: true}},
		{in: "type=image,src=busybox,dst=/v,readonly=false", want: Mount{Type: TypeImage, Source: "busybox", Target: "/v"}},
		{in: "type=image,src=busybox,dst=/v,rw", want: Mount{Type: TypeImage, Source: "busybox", Target: "/v"}},

		{in: "", err: "want KEY=VALUE"},
		{in: "dst=/v\ndst=/w", err: "one line"},
		{in: `"dst=/v`, err: "want KEY=VALUE"},
		{in: "type=bind,src=/h", err: "target is required"},
		{in: "type=bind,src=/h,dst=", err: "target is required"},
		{in: "type=bind,dst=/v", err: `"bind": field Source must not be empty`},
		{in: "type=image,dst=/v", err: `"image": field Source must not be empty`},
		{in: "type=tmpfs,src=/h,dst=/v", err: "field Source must not be specified"},
		{in: "type=bind,src=h,dst=/v", err: "'h' mount path must be absolute"},
		{in: "type=bind,src=/h,dst=v", err: "'v' mount path must be absolute"},
		{in: "type=bind,src=/h,dst=/", err: "destination can't be '/'"},
		{in: "type=npipe,src=/h,dst=/v", err: "mount type unknown"},
		{in: "dst=/v,huh=1", err: "unexpected key 'huh' in 'huh=1'"},
		{in: "dst=/v,huh", err: "invalid field 'huh' must be a key=value pair"},
		{in: "dst=/v,readonly=maybe", err: "invalid value for readonly: maybe"},
		{in: "dst=/v,bind-propagation=rprivate", err: "cannot mix 'bind-*' options with mount type 'volume'"},
		{in: "type=bind,src=/h,dst=/v,volume-nocopy", err: "cannot mix 'volume-*' options with mount type 'bind'"},
		{in: "type=bind,src=/h,dst=/v,tmpfs-size=1", err: "cannot mix 'tmpfs-*' options with mount type 'bind'"},
		{in: "type=volume,dst=/v,image-subpath=x", err: "cannot mix 'image-*' options"},
		{in: "type=bind,src=/h,dst=/v,bind-propagation=ro", err: "invalid propagation"},
		{in: "type=bind,src=/h,dst=/v,bind-recursive=yes", err: "invalid value for bind-recursive: yes"},
		{in: "type=bind,src=/h,dst=/v,bind-recursive=writable", err: "requires 'readonly'"},
		{in: "type=bind,src=/h,dst=/v,bind-recursive=readonly", err: "requires 'readonly'"},
		{in: "type=bind,src=/h,dst=/v,ro,bind-recursive=readonly", err: "requires 'bind-propagation=rprivate'"},
		{in: "type=tmpfs,dst=/v,tmpfs-size=much", err: "invalid value for tmpfs-size: much"},
		{in: "type=tmpfs,dst=/v,tmpfs-mode=8", err: "invalid value for tmpfs-mode: 8"},
		{in: "src=../x,dst=/v", err: "invalid characters for a local volume name"},
		{in: "src=data,dst=/v,volume-subpath=../x", err: "invalid subpath"},
		{in: "src=data,dst=/v,volume-subpath=/x", err: "invalid subpath"},
		{in: "src=data,dst=/v,volume-driver=rexray", err: `volume driver "rexray"`},
		{in: "src=data,dst=/v,volume-opt=size=1g", err: "no quotas"},
		{in: "src=data,dst=/v,volume-opt=type=tmpfs", err: `missing required option: "device"`},
	} {
		if c.err == "" {
			c.want.Flag = "mount"
		}
		check(t, c.in, ParseMount, c.want, c.err)
	}
}

func TestParseTmpfs(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Mount
		err  string
	}{
		{in: "/t", want: Mount{Target: "/t"}},
		{in: "/t:size=64m,mode=1777,exec", want: Mount{Target: "/t", Mode: "size=64m,mode=1777,exec", TmpfsOptions: []string{"size=64m", "mode=1777", "exec"}}},
		{in: "/t:ro", want: Mount{Target: "/t", Mode: "ro", ReadOnly: true}},
		{in: "/t:rw,uid=1000,gid=5,nr_inodes=1k,size=10%", want: Mount{Target: "/t", Mode: "rw,uid=1000,gid=5,nr_inodes=1k,size=10%", TmpfsOptions: []string{"uid=1000", "gid=5", "nr_inodes=1k", "size=10%"}}},
		{in: "/t:defaults", want: Mount{Target: "/t", Mode: "defaults"}},
		{in: "t", err: "must be absolute"},
		{in: "", err: "target is required"},
		{in: "/", err: "destination can't be '/'"},
		{in: "/t:bogus", err: `invalid tmpfs option "bogus"`},
		{in: "/t:size=many", err: `invalid tmpfs option "size=many"`},
		{in: "/t:size=", err: "invalid tmpfs option"},
		{in: "/t:size=1kk", err: "invalid tmpfs option"},
		{in: "/t:nr_inodes=10%", err: "invalid tmpfs option"},
		{in: "/t:mode=999", err: "invalid tmpfs option"},
		{in: "/t:mode=77777", err: "invalid tmpfs option"},
		{in: "/t:uid=-1", err: "invalid tmpfs option"},
		{in: "/t:uid=4294967295", err: "invalid tmpfs option"},
		{in: "/t:ro=1", err: "invalid tmpfs option"},
		{in: "/t:ro,,rw", err: "invalid tmpfs option"},
		{in: "/t:source=/etc/passwd", err: "invalid tmpfs option"},
	} {
		if c.err == "" {
			c.want.Type, c.want.Flag = TypeTmpfs, "tmpfs"
		}
		check(t, c.in, ParseTmpfs, c.want, c.err)
	}
}

func TestParseFlags(t *testing.T) {
	for _, c := range []struct {
		f    Flags
		want string // targets, or the error
	}{
		{Flags{Volumes: []string{"/a", "/b:/b"}, Mounts: []string{"dst=/c"}, Tmpfs: []string{"/d"}}, "/a /b /c /d"},
		{Flags{Volumes: []string{"/a", "/a"}}, "/a"},
		{Flags{Volumes: []string{"/x:/a", "data:/a/"}}, `--volume "data:/a/": duplicate mount point: /a`},
		{Flags{Volumes: []string{"/x:/a"}, Mounts: []string{"dst=/a"}}, `--mount "dst=/a": duplicate mount point: /a`},
		{Flags{Volumes: []string{"/x:/a"}, Tmpfs: []string{"/a"}}, `--tmpfs "/a": duplicate mount point: /a`},
		{Flags{Tmpfs: []string{"a"}}, `--tmpfs "a": invalid mount path: 'a' mount path must be absolute`},
	} {
		list, err := c.f.Parse()
		got := targets(list)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: got %q, want %q", c.f, got, c.want)
		}
	}
}

func targets(list []Mount) string {
	var out []string
	for _, m := range list {
		out = append(out, m.Target)
	}
	return strings.Join(out, " ")
}

func TestMerge(t *testing.T) {
	others := map[string][]Mount{
		"db": {
			{Type: TypeVolume, Source: "0123", Target: "/data", Anonymous: true, Flag: "image"},
			{Type: TypeBind, Source: "/h", Target: "/h"}, {Type: TypeTmpfs, Target: "/tmp"},
			{Type: TypeBind, Source: "/mine", Target: "/x/y"},
		},
	}
	mountsOf := func(name string) ([]Mount, error) {
		if list, ok := others[name]; ok {
			return list, nil
		}
		return nil, os.ErrNotExist
	}
	f := Flags{Volumes: []string{"/there:/x/y", "/data", "/z"}, VolumesFrom: []string{"db:ro"}}
	explicit, err := f.Parse()
	if err != nil {
		t.Fatal(err)
	}
	list, err := f.Merge(explicit, mountsOf, map[string]struct{}{"/z": {}, "/w/": {}, "/x/y": {}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := targets(list), "/data /z /h /w /x/y"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	data, h, w, xy := list[0], list[2], list[3], list[4]
	if data.Source != "0123" || !data.ReadOnly || data.Anonymous || h.Source != "/h" || !h.ReadOnly || w.Type != TypeVolume || xy.Source != "/there" || xy.ReadOnly {
		t.Errorf("got %+v", list)
	}
	for value, want := range map[string]string{
		"nobody": `--volumes-from "nobody": file does not exist`, ":ro": "names no container", "db:nocopy": "invalid mode", "db:huh": "invalid mode",
	} {
		f := Flags{VolumesFrom: []string{value}}
		if _, err := f.Merge(nil, mountsOf, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
	if _, err := (Flags{}).Merge(nil, nil, map[string]struct{}{"relative": {}}); err == nil {
		t.Error("a relative VOLUME was taken")
	}
}
