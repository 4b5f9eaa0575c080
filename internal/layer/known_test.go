package layer

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestKnownSum(t *testing.T) {
	good := digest.FromString("x")
	if sum, ok := knownSum(good); !ok || digest.NewDigestFromBytes(digest.SHA256, sum[:]) != good {
		t.Errorf("%s: %x, %v", good, sum, ok)
	}
	for _, bad := range []string{"", "sha256:", "sha512:" + good.Encoded(), string(good[:70]), string(good) + "00", "sha256:" + strings.Repeat("g", 64), good.Encoded()} {
		if _, ok := knownSum(digest.Digest(bad)); ok {
			t.Errorf("%q is taken for a sum", bad)
		}
	}
}
