package bridge

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lookup returns the addresses of those who are on the bridge under a name, as of now.
func (b *Bridge) lookup(name string) []netip.Addr {
	files, _ := os.ReadDir(filepath.Join(b.dir, leaseDir))
	var out []netip.Addr
	for _, e := range files {
		ip, err := netip.ParseAddr(e.Name())
		if err == nil && b.has(ip, name) {
			out = append(out, ip)
		}
	}
	return out
}

// has tells whether the owner of an address lives and has a name.
func (b *Bridge) has(ip netip.Addr, name string) bool {
	f, err := os.Open(filepath.Join(b.dir, leaseDir, ip.String()))
	if err != nil {
		return false
	}
	defer f.Close()
	var r record
	if json.NewDecoder(f).Decode(&r) != nil {
		return false
	}
	for _, n := range r.Names {
		if strings.EqualFold(n, name) {
			lock := wholeFile() // asked about, not taken: nobody is disturbed
			err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
			return err == nil && lock.Type != unix.F_UNLCK
		}
	}
	return false
}
