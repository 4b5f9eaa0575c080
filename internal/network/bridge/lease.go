package bridge

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// leaseDir has a file for each address, named by it. Who has it locked has the address.
const leaseDir = "leases"

// lastFile has the address given out last: others are not given it again at once.
const lastFile = "last"

// lease is an address that is ours until the file is closed.
type lease struct {
	addr netip.Addr
	file *os.File
}

// record is what the file of a lease says of its owner. docs/formats.md has it.
type record struct {
	ID    string   `json:",omitempty"`
	Names []string `json:",omitempty"`
}

// lease takes an address of the range own is in. The caller holds the lock.
func (b *Bridge) lease(own netip.Prefix, w Want) (*lease, error) {
	if w.IP.IsValid() {
		return b.leaseOf(own, w)
	}
	first := binary.BigEndian.Uint32(own.Masked().Addr().AsSlice())
	size := uint32(1) << (32 - own.Bits())
	at := b.last() - first // may be of another range: modulo size it is a start as good as any
	for range size {
		at = (at + 1) % size
		ip := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, first+at)))
		if at == 0 || at == size-1 || ip == own.Addr() {
			continue // the network's own and broadcast
		}
		l, err := b.take(ip, w)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if l != nil {
			os.WriteFile(filepath.Join(b.dir, lastFile), []byte(ip.String()), 0o644) // else it is only given sooner
			return l, nil
		}
	}
	return nil, fmt.Errorf("%w: all addresses of %s are in use", ErrUnavailable, own.Masked())
}

// leaseOf takes the address that was asked for.
func (b *Bridge) leaseOf(own netip.Prefix, w Want) (*lease, error) {
	if !own.Contains(w.IP) || w.IP == own.Masked().Addr() || w.IP == lastOf(own) {
		return nil, fmt.Errorf("--ip %s: it is no address for a container in %s, the network of %s", w.IP, own.Masked(), Name)
	}
	if w.IP != own.Addr() {
		l, err := b.take(w.IP, w)
		if l != nil || err != nil {
			return l, err
		}
	}
	return nil, fmt.Errorf("--ip %s: Address already in use", w.IP)
}

func lastOf(p netip.Prefix) netip.Addr {
	first := binary.BigEndian.Uint32(p.Masked().Addr().AsSlice())
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, first+1<<(32-p.Bits())-1)))
}

// last is the address given out last, as a number; 0 if there is none.
func (b *Bridge) last() uint32 {
	data, _ := os.ReadFile(filepath.Join(b.dir, lastFile))
	ip, err := netip.ParseAddr(strings.TrimSpace(string(data)))
	if err != nil || !ip.Is4() {
		return 0
	}
	return binary.BigEndian.Uint32(ip.AsSlice())
}

// take takes an address; nil if somebody has it.
func (b *Bridge) take(ip netip.Addr, w Want) (*lease, error) {
	f, err := os.OpenFile(filepath.Join(b.dir, leaseDir, ip.String()), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	lock := wholeFile()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, nil
		}
		return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	data, err := json.Marshal(record{w.ID, w.Names})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &lease{ip, f}, nil
}

// release gives the address back. The file stays while others may have it open.
func (l *lease) release() {
	l.file.Truncate(0)
	l.file.Close()
}

// wholeFile is a lock of a file, which belongs to its descriptor (fcntl(2), "Open file description locks").
func wholeFile() unix.Flock_t { return unix.Flock_t{Type: unix.F_WRLCK} }

// lockFile locks a file until the function it returns is called.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}
	return func() { f.Close() }, nil
}
