package sandbox

import (
	"encoding/binary"
	"errors"

	"nacre/internal/rootfs"
)

// wire carries a plan from one process to its copy: both run the same function over the
// fields, one writing them down, the other reading them. There is no version: it is
// the same program. (encoding/json takes a third of a millisecond to get going, of each run.)
type wire struct {
	data    []byte
	reading bool
	err     error
}

var errWire = errors.New("the plan of the sandbox is damaged")

// number carries any integer.
func number[T ~int | ~int64 | ~uint32 | ~uint64 | ~uint](w *wire, v *T) {
	if !w.reading {
		w.data = binary.AppendUvarint(w.data, uint64(*v))
		return
	}
	n, size := binary.Uvarint(w.data)
	if size <= 0 {
		w.fail()
		return
	}
	w.data = w.data[size:]
	*v = T(n)
}

func (w *wire) fail() {
	w.err, w.data = errWire, nil
}

func (w *wire) flag(v *bool) {
	n := 0
	if *v {
		n = 1
	}
	number(w, &n)
	*v = n != 0
}

// bytes reads without copying.
func (w *wire) bytes(v *[]byte) {
	n := len(*v)
	number(w, &n)
	if !w.reading {
		w.data = append(w.data, *v...)
		return
	}
	if n < 0 || n > len(w.data) {
		w.fail()
		return
	}
	*v, w.data = w.data[:n:n], w.data[n:]
}

func (w *wire) text(v *string) {
	if !w.reading {
		n := len(*v)
		number(w, &n)
		w.data = append(w.data, *v...)
		return
	}
	var b []byte
	w.bytes(&b)
	*v = string(b)
}

// list carries a slice, each element by one.
func list[T any](w *wire, v *[]T, one func(*T)) {
	n := len(*v)
	number(w, &n)
	if w.reading {
		if n < 0 || n > len(w.data) { // an element takes a byte at least
			w.fail()
			return
		}
		if n > 0 {
			*v = make([]T, n)
		}
	}
	for i := range *v {
		one(&(*v)[i])
	}
}

func (w *wire) texts(v *[]string) { list(w, v, w.text) }

// encode is the plan in bytes.
func (p *plan) encode() []byte {
	w := wire{data: make([]byte, 0, 8<<10)}
	p.carry(&w)
	return w.data
}

func (p *plan) decode(data []byte) error {
	w := wire{data: data, reading: true}
	p.carry(&w)
	if w.err == nil && len(w.data) > 0 {
		return errWire
	}
	return w.err
}

// carry is the order of the fields.
func (p *plan) carry(w *wire) {
	carryRoot(w, &p.Root)
	for _, s := range []*string{&p.Chroot, &p.Scratch, &p.Hostname, &p.Domain, &p.Cwd} {
		w.text(s)
	}
	for _, b := range []*bool{
		&p.ReadonlyRoot, &p.AllDevices, &p.Userns, &p.NoSetgroups, &p.RootGiven, &p.NewCgroupNS, &p.SetOOMScore, &p.Loopback, &p.Terminal,
		&p.OwnStdio[0], &p.OwnStdio[1], &p.OwnStdio[2], &p.NoNewPriv,
	} {
		w.flag(b)
	}
	for _, n := range []*int{&p.OOMScore, &p.Size.Width, &p.Size.Height} {
		number(w, n)
	}
	for _, l := range []*[]string{&p.Cgroups, &p.Masked, &p.Readonly, &p.Args, &p.Env} {
		w.texts(l)
	}
	list(w, &p.Join, func(j *join) { number(w, &j.Flag); w.text(&j.Path) })
	list(w, &p.Sysctl, func(s *keyValue) { w.text(&s.Key); w.text(&s.Value) })
	list(w, &p.Mounts, func(m *mount) { m.carry(w) })
	list(w, &p.Trees, func(t *Tree) { t.carry(w) })
	list(w, &p.Devices, func(d *device) { d.carry(w) })
	list(w, &p.Rlimits, func(l *rlimit) { number(w, &l.Resource); number(w, &l.Soft); number(w, &l.Hard) })
	list(w, &p.User.Groups, func(g *uint32) { number(w, g) })
	for _, n := range []*uint32{&p.User.UID, &p.User.GID, &p.User.Umask} {
		number(w, n)
	}
	for _, s := range []*uint64{&p.Caps.Bounding, &p.Caps.Effective, &p.Caps.Permitted, &p.Caps.Inheritable, &p.Caps.Ambient} {
		number(w, s)
	}
	w.bytes(&p.Filter)
	w.bytes(&p.OwnerFilter)
	list(w, &p.Given, func(n *int) { number(w, n) })
	number(w, &p.FilterFlags)
	w.flag(&p.RuntimeHooks)
	w.flag(&p.Outlives)
	w.flag(&p.Waits)
	w.flag(&p.Init)
	for _, b := range []*[]byte{&p.Config, &p.CreateState, &p.StartState} {
		w.bytes(b)
	}
	list(w, &p.CreateHooks, func(h *hook) { h.carry(w) })
	list(w, &p.StartHooks, func(h *hook) { h.carry(w) })
}

func carryRoot(w *wire, m *rootfs.Mount) {
	list(w, &m.Lower, func(l *lower) { w.text(&l.Index); w.text(&l.Data); w.text(&l.Dir) })
	w.text(&m.Upper)
	w.text(&m.Work)
	w.flag(&m.UserXattr)
}

func (m *mount) carry(w *wire) {
	for _, s := range []*string{&m.Dest, &m.Type, &m.Source, &m.Within} {
		w.text(s)
	}
	w.texts(&m.Data)
	for _, b := range []*bool{&m.Recursive, &m.All, &m.DeviceNode, &m.IsFile, &m.Optional, &m.Mapped, &m.Foreign} {
		w.flag(b)
	}
	for _, n := range []*uint64{&m.Set, &m.Clear, &m.Propagate} {
		number(w, n)
	}
	w.bytes(&m.File)
	number(w, &m.Mode)
	number(w, &m.UID)
	number(w, &m.GID)
}

func (d *device) carry(w *wire) {
	w.text(&d.Path)
	number(w, &d.Rdev)
	for _, n := range []*uint32{&d.Mode, &d.UID, &d.GID} {
		number(w, n)
	}
}
