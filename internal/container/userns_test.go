package container

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestContainerIDs: no two containers have ids in common as long as both hold them, what is given back is given out
// again, and what an administrator gave to others is nobody's.
func TestContainerIDs(t *testing.T) {
	old := idsFile
	idsFile = filepath.Join(t.TempDir(), "nacre", "ids")
	t.Cleanup(func() { idsFile = old })
	const id = "00000000000000070000000000000000"
	given := append(givenIDs("/etc/subuid"), givenIDs("/etc/subgid")...)
	taken := map[uint32]*os.File{}
	for i := range 500 { // all want the same
		first, held, err := containerIDs(id)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		if taken[first] != nil || first%idCount != 0 || first < idFirst || first > idEnd-idCount || overlaps(given, uint64(first)) {
			t.Fatalf("the %d. has ids from %d on", i, first)
		}
		taken[first] = held
	}
	for first, held := range taken {
		held.Close()
		again, held, err := containerIDs(fmt.Sprintf("%016x", (first-idFirst)/idCount))
		if err != nil || again != first {
			t.Fatalf("%d was given back, and now there is %d, %v", first, again, err)
		}
		held.Close()
	}
	if entries, err := os.ReadDir(filepath.Dir(idsFile)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if info, err := os.Stat(idsFile); err != nil || info.Size() != 0 {
		t.Errorf("it has grown: %v, %v", info, err)
	}
	for _, bad := range []string{"", "abc", "0123", "zz00000000000000"} {
		if _, _, err := containerIDs(bad); err == nil {
			t.Errorf("%q is an id", bad)
		}
	}
	idsFile = "/proc/self/nothing/ids"
	if _, _, err := containerIDs(id); err == nil {
		t.Error("ids are given out without a lock")
	}
}
