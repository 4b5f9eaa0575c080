package volume

import (
	"encoding/json"
	"path"
	"reflect"
	"strings"
	"testing"
)

// sound fails unless m is something that may be mounted.
func sound(t *testing.T, m Mount) {
	t.Helper()
	if !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || m.Target == "/" || strings.Contains(m.Target, "\x00") {
		t.Errorf("target %q", m.Target)
	}
	switch m.Type {
	case TypeBind:
		if !path.IsAbs(m.Source) || path.Clean(m.Source) != m.Source || m.NoCopy || m.Subpath != "" {
			t.Errorf("bind of %+v", m)
		}
	case TypeVolume:
		if m.Source != "" && CheckName(m.Source) != nil || m.Propagation != "" || strings.ContainsAny(m.Source, "/\x00") || m.Source == ".." {
			t.Errorf("volume %+v", m)
		}
	case TypeTmpfs:
		if m.Source != "" {
			t.Errorf("tmpfs of %q", m.Source)
		}
	case TypeImage:
		if m.Source == "" {
			t.Error("image without a name")
		}
	default:
		t.Errorf("type %q", m.Type)
	}
	if strings.HasPrefix(m.Subpath, "/") || m.Subpath == ".." || strings.HasPrefix(m.Subpath, "../") {
		t.Errorf("subpath %q", m.Subpath)
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Mount
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); string(again) != string(data) {
		t.Errorf("%s came back as %s", data, again)
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, s := range []string{"/v", "a1:/v:ro,nocopy", "./h:/v:rshared,z", "../x:/v", "~/x:/v", "/:/v/../.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseVolume(s)
		if err != nil {
			return
		}
		sound(t, m)
		if m.Source == "" || strings.ContainsAny(m.Source+m.Target, ":") || m.Type == TypeVolume && strings.HasPrefix(m.Source, ".") {
			return
		}
		// What was parsed prints as something that parses to the same.
		again, err := ParseVolume(Binds([]Mount{m})[0])
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%q: %+v became %+v, %v", s, m, again, err)
		}
	})
}

func FuzzParseMount(f *testing.F) {
	for _, s := range []string{
		"type=bind,src=/h,dst=/v,ro,bind-propagation=rslave,bind-recursive=writable", "src=data,dst=/v,volume-label=a=b,volume-subpath=x",
		`dst=/v,volume-opt=type=none,volume-opt=device=/x,"volume-opt=o=bind,ro"`, "type=tmpfs,dst=/v,tmpfs-size=1g,tmpfs-mode=700", "type=image,src=b,dst=/v,image-subpath=a/b,rw",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseMount(s); err == nil {
			sound(t, m)
		}
	})
}

func FuzzParseTmpfs(f *testing.F) {
	for _, s := range []string{"/t", "/t:size=1m,mode=700,ro", "/t:uid=1,gid=2,mpol=local", "/t:huge=never,nr_inodes=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseTmpfs(s)
		if err != nil {
			return
		}
		sound(t, m)
		for _, o := range m.TmpfsOptions {
			if key, _, _ := strings.Cut(o, "="); key == "source" || key == "" || strings.Contains(o, ",") {
				t.Errorf("option %q", o)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"name":"data","driver":"local","created":"2026-01-02T03:04:05Z","labels":{"a":"b"}}`))
	f.Add([]byte(`{"name":"../x","driver":"local"}`))
	f.Add([]byte(`{"name":"aa","options":{"type":"none","o":"bind","device":"/x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		vol, err := parseRecord(data)
		if err != nil {
			return
		}
		if CheckName(vol.Name) != nil || checkOptions(vol.Options) != nil {
			t.Errorf("%+v", vol)
		}
		if _, err := json.Marshal(vol); err != nil {
			t.Error(err)
		}
	})
}
