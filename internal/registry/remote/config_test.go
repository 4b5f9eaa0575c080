package remote_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nacre/internal/registry/remote"
)

func write(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDockerConfig: what docker and podman have written is understood.
func TestDockerConfig(t *testing.T) {
	const (
		annX = "YW5uOng="     // ann:x
		bobY = "Ym9iOnk6eg==" // bob:y:z
	)
	for name, c := range map[string]struct {
		text, domain string
		want         remote.Credential
		err          string
	}{
		"plain":             {`{"auths":{"r.example.com":{"auth":"` + annX + `"}}}`, "r.example.com", remote.Credential{Username: "ann", Password: "x"}, ""},
		"colon in password": {`{"auths":{"r.example.com":{"auth":"` + bobY + `"}}}`, "r.example.com", remote.Credential{Username: "bob", Password: "y:z"}, ""},
		"with port":         {`{"auths":{"localhost:5000":{"auth":"` + annX + `"}}}`, "localhost:5000", remote.Credential{Username: "ann", Password: "x"}, ""},
		"other port":        {`{"auths":{"localhost:5000":{"auth":"` + annX + `"}}}`, "localhost:5001", remote.Credential{}, ""},
		"docker.io":         {`{"auths":{"https://index.docker.io/v1/":{"auth":"` + annX + `"}}}`, "docker.io", remote.Credential{Username: "ann", Password: "x"}, ""},
		"docker.io, podman": {`{"auths":{"docker.io":{"auth":"` + annX + `"}}}`, "docker.io", remote.Credential{Username: "ann", Password: "x"}, ""},
		"docker.io, both":   {`{"auths":{"docker.io":{"auth":"` + bobY + `"},"https://index.docker.io/v1/":{"auth":"` + annX + `"}}}`, "docker.io", remote.Credential{Username: "ann", Password: "x"}, ""},
		"not docker.io":     {`{"auths":{"https://index.docker.io/v1/":{"auth":"` + annX + `"}}}`, "index.docker.io.example.com", remote.Credential{}, ""},
		"URL":               {`{"auths":{"https://r.example.com/v1/":{"auth":"` + annX + `"}}}`, "r.example.com", remote.Credential{Username: "ann", Password: "x"}, ""},
		"part of one":       {`{"auths":{"r.example.com/team":{"auth":"` + annX + `"}}}`, "r.example.com", remote.Credential{}, ""},
		"fields":            {`{"auths":{"r.example.com":{"username":"ann","password":"x"}}}`, "r.example.com", remote.Credential{Username: "ann", Password: "x"}, ""},
		"identity token":    {`{"auths":{"r.example.com":{"auth":"YW5uOg==","identitytoken":"t"}}}`, "r.example.com", remote.Credential{Username: "ann", IdentityToken: "t"}, ""},
		"registry token":    {`{"auths":{"r.example.com":{"registrytoken":"t"}}}`, "r.example.com", remote.Credential{RegistryToken: "t"}, ""},
		"empty entry":       {`{"auths":{"r.example.com":{}}}`, "r.example.com", remote.Credential{}, ""},
		"empty file":        {"\n", "r.example.com", remote.Credential{}, ""},
		"null":              {"null", "r.example.com", remote.Credential{}, ""},
		"absent store":      {`{"credsStore":"nacre-none","auths":{"r.example.com":{"auth":"` + annX + `"}}}`, "r.example.com", remote.Credential{Username: "ann", Password: "x"}, ""},
		"absent helper":     {`{"credHelpers":{"r.example.com":"nacre-none"}}`, "r.example.com", remote.Credential{}, "docker-credential-nacre-none: not installed"},
		"helper of another": {`{"credHelpers":{"other.example.com":"nacre-none"}}`, "r.example.com", remote.Credential{}, ""},
		"not base64":        {`{"auths":{"r.example.com":{"auth":"S3CRET!"}}}`, "r.example.com", remote.Credential{}, "not base64"},
		"no colon":          {`{"auths":{"r.example.com":{"auth":"YW5u"}}}`, "r.example.com", remote.Credential{}, "not base64"},
		"not JSON":          {`{"auths":{"r.example.com":{"auth":"S3CRET`, "r.example.com", remote.Credential{}, "not JSON"},
		"another kind":      {`{"auths":"S3CRET"}`, "r.example.com", remote.Credential{}, "auths is a string"},
	} {
		c2 := &remote.DockerConfig{Path: write(t, filepath.Join(t.TempDir(), "config.json"), c.text, 0o600)}
		got, err := c2.Get(t.Context(), c.domain)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: user %q, %v", name, got.Username, err)
		}
		if err != nil && strings.Contains(err.Error(), "S3CRET") {
			t.Errorf("%s: the error tells a secret: %v", name, err)
		}
	}
}

// TestDefaultCredentials: docker's file comes first, then podman's.
func TestDefaultCredentials(t *testing.T) {
	dir := t.TempDir()
	entry := func(user string, domains ...string) string {
		auths := map[string]any{}
		for _, d := range domains {
			auths[d] = map[string]string{"username": user, "password": "x"}
		}
		data, _ := json.Marshal(map[string]any{"auths": auths})
		return string(data)
	}
	t.Setenv("HOME", filepath.Join(dir, "home"))
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("REGISTRY_AUTH_FILE", write(t, filepath.Join(dir, "file.json"), entry("file", "a:1", "b:1"), 0o600))
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "conf"))
	write(t, filepath.Join(dir, "home/.docker/config.json"), entry("docker", "a:1"), 0o600)
	write(t, filepath.Join(dir, "run/containers/auth.json"), entry("run", "a:1", "b:1", "c:1"), 0o600)
	write(t, filepath.Join(dir, "conf/containers/auth.json"), entry("conf", "a:1", "b:1", "c:1", "d:1"), 0o600)
	for domain, want := range map[string]string{"a:1": "docker", "b:1": "file", "c:1": "run", "d:1": "conf", "e:1": ""} {
		if got, err := remote.DefaultCredentials().Get(t.Context(), domain); err != nil || got.Username != want {
			t.Errorf("%s: %q, %v; want %q", domain, got.Username, err, want)
		}
	}
	t.Setenv("DOCKER_CONFIG", filepath.Join(dir, "elsewhere"))
	write(t, filepath.Join(dir, "elsewhere/config.json"), entry("elsewhere", "a:1"), 0o600)
	if got, err := remote.DefaultCredentials().Get(t.Context(), "a:1"); err != nil || got.Username != "elsewhere" {
		t.Errorf("DOCKER_CONFIG: %q, %v", got.Username, err)
	}
}

// TestHelper: the protocol of credential helpers, kept well and badly.
func TestHelper(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for name, c := range map[string]struct {
		script string
		want   remote.Credential
		err    string
	}{
		"password":  {`read url; echo "{\"Username\":\"ann\",\"Secret\":\"of $url\"}"`, remote.Credential{Username: "ann", Password: "of https://index.docker.io/v1/"}, ""},
		"identity":  {`echo '{"Username":"<token>","Secret":"t"}'`, remote.Credential{IdentityToken: "t"}, ""},
		"none":      {`echo "credentials not found in native keychain"; exit 1`, remote.Credential{}, ""},
		"nothing":   {`true`, remote.Credential{}, ""},
		"fails":     {`echo "the keyring is locked" >&2; exit 3`, remote.Credential{}, "get: exit status 3: the keyring is locked"},
		"no JSON":   {`echo "S3CRET"`, remote.Credential{}, "the answer is not one"},
		"much":      {`head -c 3000000 /dev/zero | tr '\0' x`, remote.Credential{}, "the answer is not one"},
		"left open": {`sleep 100 & echo '{"Username":"ann","Secret":"x"}'`, remote.Credential{}, "WaitDelay"},
	} {
		write(t, filepath.Join(dir, "docker-credential-test"), "#!/bin/sh\n"+c.script+"\n", 0o755)
		conf := &remote.DockerConfig{Path: write(t, filepath.Join(t.TempDir(), "config.json"), `{"credsStore":"test"}`, 0o600)}
		got, err := conf.Get(t.Context(), "docker.io")
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: user %q, %v", name, got.Username, err)
		}
		if err != nil && strings.Contains(err.Error(), "S3CRET") {
			t.Errorf("%s: the error tells a secret: %v", name, err)
		}
	}
}

// TestLogins: many at once lose none, through a symlink too, which stays one.
func TestLogins(t *testing.T) {
	dir := t.TempDir()
	real := write(t, filepath.Join(dir, "real.json"), `{"detachKeys":"ctrl-x"}`, 0o644)
	link := filepath.Join(dir, "docker", "config.json")
	if err := os.Mkdir(filepath.Dir(link), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	conf := &remote.DockerConfig{Path: link}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			file, err := conf.Login(t.Context(), fmt.Sprintf("r%d.example.com", i), remote.Credential{Username: "ann", Password: fmt.Sprint(i)})
			if err != nil || file != link {
				t.Errorf("login %d: %q, %v", i, file, err)
			}
		})
	}
	wg.Wait()
	for i := range 20 {
		if c, err := conf.Get(t.Context(), fmt.Sprintf("r%d.example.com", i)); err != nil || c.Password != fmt.Sprint(i) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link: %v, %v", fi, err)
	}
	if fi, err := os.Stat(real); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", fi, err)
	}
	data, err := os.ReadFile(real)
	if err != nil || !strings.Contains(string(data), `"detachKeys": "ctrl-x"`) {
		t.Errorf("%s, %v", data, err)
	}
	if _, err := conf.Login(t.Context(), "docker.io", remote.Credential{Username: "ann", Password: "x"}); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(real); !strings.Contains(string(data), `"https://index.docker.io/v1/"`) {
		t.Errorf("docker.io is not kept as docker does: %s", data)
	}
	if was, err := conf.Logout(t.Context(), "docker.io"); !was || err != nil {
		t.Errorf("logout: %v, %v", was, err)
	}
}

// TestHostsFile: what registries.toml may say, and what is said of it.
func TestHostsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "registries.toml")
	write(t, path, `
[host."docker.io"]
mirrors = ["mirror.example.com/hub", "http://localhost:5000"]
[host."r.example.com:5000"]
ca = ["ca.pem", "/etc/x.pem"]
client-cert = "me.pem"
client-key = "me-key.pem"
max-requests = 8
requests-per-second = 2.5
chunk = "16MB"
headers = { X-Team = "ci" }
[host.localhost]
http = true
`, 0o644)
	h, err := remote.LoadHosts(path)
	if err != nil {
		t.Fatal(err)
	}
	r := h["r.example.com:5000"]
	if len(h) != 3 || !h["localhost"].HTTP || h["docker.io"].Mirrors[1] != "http://localhost:5000" || r.CA[0] != filepath.Join(dir, "ca.pem") || r.CA[1] != "/etc/x.pem" ||
		r.ClientKey != filepath.Join(dir, "me-key.pem") || r.MaxRequests != 8 || r.Rate != 2.5 || r.Chunk != 16<<20 || r.Headers["X-Team"] != "ci" {
		t.Errorf("read %+v", h)
	}
	for text, want := range map[string]string{
		"[host.\"a.b\"]\nmirors = []":                                `:2: invalid content: unknown key "mirors": did you mean "mirrors"?`,
		"\n\n[hosts.\"a.b\"]\nhttp = true":                           `:3: invalid content: unknown key "hosts": did you mean "host"?`,
		"[host.\"a.b\"]\nspeed = 3":                                  `:2: invalid content: unknown key "speed"`,
		"[host.\"a.b\"]\nhttp = 3":                                   `:2: invalid content`,
		"[host.\"a.b\"]\nhttp = ":                                    `:2: invalid content`,
		"# x\n[host.\"a.b\"]\nmirrors = [\"ftp://x\"]":               `:2: host a.b: invalid content: mirror "ftp://x"`,
		"[host.\"a.b\"]\nmirrors = [\"x?y\"]":                        `mirror "x?y"`,
		"[host.\"a.b\"]\nclient-cert = \"x\"":                        `a client certificate needs its key`,
		"[host.\"a.b\"]\nhttp = true\ninsecure = true":               `plain HTTP has no certificates`,
		"[host.\"a.b\"]\nchunk = \"big\"":                            `chunk = "big"`,
		"[host.\"a.b\"]\nchunk = \"3GB\"":                            `a chunk larger than`,
		"[host.\"a.b\"]\nmax-requests = -1":                          `a limit is negative`,
		"[host.\"https://a.b\"]\nhttp = true":                        `want the registry's name in names of images, as "a.b"`,
		"[host.\"registry-1.docker.io\"]":                            `as "docker.io"`,
		"[host.\"a.b\"]\nheaders = { authorization = \"Bearer x\" }": `the header authorization cannot be set here`,
		"[host.\"a.b\"]\nhttp = true\n[host.\"a.b\"]\n":              `:3: `,
	} {
		write(t, path, text, 0o644)
		if _, err := remote.LoadHosts(path); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+":") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestDefaultHosts: the user's file stands over the system's, host by host, and
// NACRE_REGISTRIES in place of both.
func TestDefaultHosts(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("NACRE_REGISTRIES", "")
	if h, err := remote.DefaultHosts(); err != nil || h["mine.example.com"].HTTP {
		t.Errorf("without: %v, %v", h, err)
	}
	write(t, filepath.Join(dir, "nacre", "registries.toml"), "[host.\"mine.example.com\"]\nhttp = true", 0o644)
	if h, err := remote.DefaultHosts(); err != nil || !h["mine.example.com"].HTTP {
		t.Errorf("the user's: %v, %v", h, err)
	}
	t.Setenv("NACRE_REGISTRIES", filepath.Join(dir, "absent.toml"))
	if _, err := remote.DefaultHosts(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that was named and is not there: %v", err)
	}
}

// TestDefaultCredentialsHomeless: without a home directory in the environment it is that of the account, never the working directory.
func TestDefaultCredentialsHomeless(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", "")
	for _, home := range []string{"", "relative"} {
		t.Setenv("HOME", home)
		if path := remote.DefaultCredentials().Path; !filepath.IsAbs(path) || !strings.HasSuffix(path, "/.docker/config.json") {
			t.Errorf("HOME=%q: %s", home, path)
		}
	}
}
