package isolation

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestOpenOther refuses namespaces that are somebody else's, or have other ids.
func TestOpenOther(t *testing.T) {
	for want, c := range map[string]Choice{
		"it belongs to ":                  {Kind: Single, Beside: os.Getpid(), UID: 54321},
		"other ids than isolation single": {Kind: Single, Beside: os.Getpid(), UID: 0},
		"no such file":                    {Kind: Single, Beside: 1 << 30},
	} {
		if fd, err := c.openOther(); err == nil || fd >= 0 || !strings.Contains(err.Error(), want) {
			t.Errorf("%d, %v; want %q", fd, err, want)
		}
	}
}

func TestMappings(t *testing.T) {
	got := mappings(1000, []Range{{100000, 65536}, {300000, 5}})
	if want := []Mapping{{0, 1000, 1}, {1, 100000, 65536}, {65537, 300000, 5}}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}
