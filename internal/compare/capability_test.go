package compare

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCapabilities: what setcap writes is read as getcap reads it.
func TestCapabilities(t *testing.T) {
	for _, text := range []string{"cap_net_raw=ep", "cap_chown,cap_checkpoint_restore=p", "cap_sys_admin,cap_bpf=eip", "cap_kill=i"} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("setcap", text, path).CombinedOutput(); err != nil {
			t.Fatalf("setcap: %v: %s", err, out)
		}
		buf := make([]byte, 64)
		n, err := unix.Getxattr(path, capabilityXattr, buf)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := capabilities(string(buf[:n])); !ok || got != text {
			t.Errorf("%s is read as %q, %v", text, got, ok)
		}
	}
	for _, bad := range []string{"", "abc", "\x00\x00\x00\x02", strings.Repeat("\x00", 20), "\x01\x00\x00\x02" + strings.Repeat("\x00", 17)} {
		if got, ok := capabilities(bad); ok {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
}

func FuzzCapabilities(f *testing.F) {
	f.Add("\x01\x00\x00\x02" + strings.Repeat("\xff", 16))
	f.Add("\x01\x00\x00\x03" + strings.Repeat("\xff", 20))
	f.Fuzz(func(t *testing.T, v string) {
		if text, ok := capabilities(v); ok && len(v) != 20 && len(v) != 24 {
			t.Errorf("%q is read as %q", v, text)
		}
	})
}
