package sandbox

import (
	"testing"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/google/go-cmp/cmp"
)

func fullPlan(t testing.TB) *plan {
	score := -7
	c := Config{
		Spec:  DefaultSpec(SpecOptions{Args: []string{"a", "", "ü\xff"}, Env: []string{"A=b"}, User: specs.User{UID: 1 << 31, GID: 1, AdditionalGids: []uint32{1, 2}}, Hostname: "h", Terminal: true}),
		Trees: []Tree{{Root: rootfs.Mount{Lower: []lower{{Dir: "t"}}, Upper: "tu", Work: "tw"}, Path: "p"}, {Path: "q"}},
		Files: []File{{Path: "/f", Data: []byte{0, 1, 255}, Mode: 0o755, UID: 3}, {Path: "/empty"}},
	}
	c.Root.Lower = []lower{{Index: "i", Data: "d"}, {Dir: "x"}}
	c.Root.Upper, c.Root.Work, c.Root.UserXattr = "u", "w", true
	c.Spec.Process.OOMScoreAdj = &score
	c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 1<<64 - 1}}
	c.Spec.Process.ConsoleSize = &specs.Box{Width: 1, Height: 2}
	p, err := newPlan(&c)
	if err != nil {
		t.Fatal(err)
	}
	p.Join = []join{{1, "ns"}}
	p.Cgroups = []string{"c"}
	p.Scratch = "s"
	p.OwnerFilter = make([]byte, 8)
	p.OwnStdio = [3]bool{true, false, true}
	p.Config, p.RuntimeHooks, p.CreateState, p.StartState = []byte("{}"), true, []byte("c"), []byte("s")
	p.CreateHooks = []hook{{Path: "/h", Args: []string{"h"}, Env: []string{"A=b"}, Timeout: 3}, {Path: "/i"}}
	p.StartHooks = p.CreateHooks[1:]
	return p
}

func TestPlanTravels(t *testing.T) {
	p := fullPlan(t)
	var got plan
	if err := got.decode(p.encode()); err != nil {
		t.Fatal(err)
	}
	for i := range p.Mounts { // nil and empty are the same on the way
		if len(p.Mounts[i].File) == 0 {
			p.Mounts[i].File, got.Mounts[i].File = nil, nil
		}
		if len(p.Mounts[i].Data) == 0 {
			p.Mounts[i].Data, got.Mounts[i].Data = nil, nil
		}
	}
	if diff := cmp.Diff(*p, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzPlan: no bytes break the decoder, and what it accepts is written down the same again.
func FuzzPlan(f *testing.F) {
	f.Add(fullPlan(f).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var p plan
		if p.decode(data) != nil {
			return
		}
		var again plan
		if err := again.decode(p.encode()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Error(diff)
		}
	})
}
