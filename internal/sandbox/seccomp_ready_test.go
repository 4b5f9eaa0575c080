package sandbox

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestReadyFilters: containers with docker's defaults, as root and as others, find their filter ready, and it is the one
// that would be compiled. Others find none.
func TestReadyFilters(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		return // there is none for others
	}
	profile := DefaultSpec(SpecOptions{Args: []string{"sh"}}).Linux.Seccomp
	program, err := compileSeccomp(profile)
	if err != nil {
		t.Fatal(err)
	}
	key := profileKey(profile)
	if os.Getenv("UPDATE") != "" {
		file := append(binary.LittleEndian.AppendUint32(key[:], uint32(len(program))), program...)
		if err := os.WriteFile("seccomp_ready.bin", file, 0o644); err != nil {
			t.Fatal(err)
		}
		readyFilters = string(file)
	}
	for name, s := range map[string]*specs.Spec{
		"root": DefaultSpec(SpecOptions{Args: []string{"sh"}, Hostname: "h", Terminal: true}),
		"user": DefaultSpec(SpecOptions{Args: []string{"sh"}, User: specs.User{UID: 1}, HostNetwork: true}),
	} {
		if got, ok := readyFilter(profileKey(s.Linux.Seccomp)); !ok || !bytes.Equal(got, program) {
			t.Errorf("%s: seccomp_ready.bin is not what is compiled (found: %v): UPDATE=1 go test -run TestReadyFilters makes it anew", name, ok)
		}
	}
	other := *profile
	other.DefaultAction = specs.ActKillProcess
	if _, ok := readyFilter(profileKey(&other)); ok {
		t.Error("another profile is taken for the default")
	}
	whole := readyFilters
	defer func() { readyFilters = whole }()
	for n := range len(whole) {
		readyFilters = whole[:n]
		if got, ok := readyFilter(key); ok {
			t.Fatalf("%d bytes are taken for a whole file: %d", n, len(got))
		}
	}
	readyFilters = string(make([]byte, 36)) + whole // after another
	if got, ok := readyFilter(key); !ok || !bytes.Equal(got, program) {
		t.Error("the second is not found")
	}
}
