package sshagent

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keyFile writes a new private key, with a passphrase where there is one.
func keyFile(t *testing.T, passphrase string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func serve(t *testing.T, sources ...Source) *Agents {
	t.Helper()
	a, err := Serve(sources)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func dial(t *testing.T, a *Agents, id string) agent.ExtendedAgent {
	t.Helper()
	c, err := net.Dial("unix", a.Sockets()[id])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return agent.NewClient(c)
}

func TestParse(t *testing.T) {
	for value, want := range map[string]Source{
		"default":     {ID: "default"},
		"git=/a":      {ID: "git", Paths: []string{"/a"}},
		"git=/a,/b=c": {ID: "git", Paths: []string{"/a", "/b=c"}},
	} {
		if got, err := Parse(value); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "=", "=/a", "a=", "a=/b,"} {
		if got, err := Parse(value); err == nil {
			t.Errorf("%q: %+v", value, got)
		}
	}
}

// Keys can be used, by way of our agent and of one more behind it, and nothing else.
func TestUse(t *testing.T) {
	keys := serve(t, Source{ID: "keys", Paths: []string{keyFile(t, ""), keyFile(t, "")}})
	t.Setenv("SSH_AUTH_SOCK", keys.Sockets()["keys"])
	for name, a := range map[string]*Agents{
		"keys": keys, "socket": serve(t, Source{ID: "keys", Paths: []string{keys.Sockets()["keys"]}}), "environment": serve(t, Source{ID: "keys"}),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, a, "keys")
			list, err := c.List()
			if err != nil || len(list) != 2 {
				t.Fatal(list, err)
			}
			data := []byte("to be signed")
			sig, err := c.Sign(list[1], data)
			if err != nil {
				t.Fatal(err)
			}
			if err := list[1].Verify(data, sig); err != nil {
				t.Error(err)
			}
			_, own, _ := ed25519.GenerateKey(rand.Reader)
			for what, err := range map[string]error{
				"Remove": c.Remove(list[0]), "RemoveAll": c.RemoveAll(), "Lock": c.Lock([]byte("x")), "Unlock": c.Unlock([]byte("x")), "Add": c.Add(agent.AddedKey{PrivateKey: own}),
			} {
				if err == nil {
					t.Errorf("%s is allowed", what)
				}
			}
			if list, err := c.List(); err != nil || len(list) != 2 {
				t.Errorf("after that: %v, %v", list, err)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	junk := filepath.Join(t.TempDir(), "junk")
	os.WriteFile(junk, []byte("no key"), 0o600)
	huge := filepath.Join(t.TempDir(), "huge")
	os.WriteFile(huge, make([]byte, maxKey+1), 0o600)
	other := serve(t, Source{ID: "x", Paths: []string{keyFile(t, "")}}).Sockets()["x"]
	for _, tt := range []struct {
		sources []Source
		want    string
	}{
		{[]Source{{ID: "default"}}, "SSH_AUTH_SOCK is not set"},
		{[]Source{{ID: "a", Paths: []string{"/no/such"}}}, "ssh a: stat /no/such"},
		{[]Source{{ID: "a", Paths: []string{junk}}}, "no key found"},
		{[]Source{{ID: "a", Paths: []string{huge}}}, "too large"},
		{[]Source{{ID: "a", Paths: []string{keyFile(t, "pass")}}}, "has a passphrase"},
		{[]Source{{ID: "a", Paths: []string{other, other}}}, "cannot be one of several"},
		{[]Source{{ID: "a", Paths: []string{other}}, {ID: "a", Paths: []string{other}}}, "given more than once"},
	} {
		a, err := Serve(tt.sources)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one with %q", tt.sources, err, tt.want)
		}
		if err == nil {
			a.Close()
		}
	}
}

func TestCloseEndsConnections(t *testing.T) {
	a, err := Serve([]Source{{ID: "a", Paths: []string{keyFile(t, "")}}})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, a, "a")
	if _, err := c.List(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(); err == nil {
		t.Error("the agent still answers")
	}
	if _, err := os.Stat(filepath.Dir(a.Sockets()["a"])); !os.IsNotExist(err) {
		t.Errorf("left over: %v", err)
	}
}
