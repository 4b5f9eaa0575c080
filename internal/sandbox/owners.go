package sandbox

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"unsafe"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// In a user namespace with one id nothing can be given to anybody else, and package managers,
// tar and install do little else. There the kernel hands us each chown of the sandbox (seccomp_unotify(2)),
// which we answer: the new owner is recorded, and the program told that all went well. It hands us each look
// at a file, too: those that have a recorded owner show it, so that what copies owners (useradd, cp -a, tar) copies
// the right ones. Whoever gives up being root for another user is told that it worked, and stays root.

// actNotify is the action of a rule whose calls are handed to us.
const actNotify specs.LinuxSeccompAction = "NACRE_NOTIFY"

// chowns and stats are the calls we answer, becomes those that do nothing, successfully.
var (
	stats   = [...]string{"stat", "lstat", "fstat", "newfstatat", "statx"}
	chowns  = [...]string{"chown", "fchown", "lchown", "fchownat", "chown32", "fchown32", "lchown32"}
	becomes = [...]string{
		"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
		"setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32", "setfsuid32", "setfsgid32", "setgroups32",
	}
)

// recordsOwners tells whether a sandbox is one whose chowns are recorded: root, as the one id there is.
func recordsOwners(s *specs.Spec) bool {
	return s.Process.User.UID == 0 && len(s.Linux.UIDMappings) == 0 && oneID()
}

// oneID tells whether our user namespace lacks the owners that images have.
func oneID() bool { return inUserns() && !rootfs.HasOwner(1, 1) && !rootfs.HasOwner(33, 33) }

// ownerFilter is the program that hands us chowns. It comes before that of the spec.
func ownerFilter() ([]byte, error) {
	var done uint
	return seccompProgram(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: allArches(),
		Syscalls: []specs.LinuxSyscall{
			{Names: chowns[:], Action: actNotify},
			{Names: stats[:], Action: actNotify},
			{Names: becomes[:], Action: specs.ActErrno, ErrnoRet: &done},
		},
	})
}

// allArches are those whose programs this machine's kernel runs.
func allArches() []specs.Arch {
	if runtime.GOARCH == "arm64" {
		return []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	}
	return []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
}

// loadOwnerFilter loads the filter and hands its listener to whoever started us, with the mount that is the root.
func (c *child) loadOwnerFilter() error {
	if len(c.OwnerFilter) == 0 {
		return nil
	}
	prog := unix.SockFprog{
		Len:    uint16(len(c.OwnerFilter) / 8),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(c.OwnerFilter))),
	}
	load := func(flags uintptr) (uintptr, unix.Errno) {
		fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
		return fd, errno
	}
	// A signal does not interrupt a call that we are answering already: Go programs send themselves many.
	fd, errno := load(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errno == unix.EINVAL {
		fd, errno = load(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER) // Linux before 5.19
	}
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	return c.report(reportOwners, strconv.FormatUint(c.mountID, 10), int(fd))
}

// ownerCall is one of the calls we answer, on some architecture.
type ownerCall struct {
	name  string
	short bool // its ids have 16 bits
	stat  bool
}

// ownerCalls finds calls by architecture and number.
var ownerCalls = sync.OnceValue(func() map[[2]uint32]ownerCall {
	calls := map[[2]uint32]ownerCall{}
	for _, name := range allArches() {
		a := arches[name]
		for _, call := range chowns {
			nr, ok := syscallNumbers()[a.column][call]
			if !ok {
				continue
			}
			if a.x32 {
				nr |= x32Bit
			}
			long := call[len(call)-2:] == "32"
			c := ownerCall{name: call, short: a.narrow && !long && call != "fchownat"}
			if long {
				c.name = call[:len(call)-2]
			}
			calls[[2]uint32{a.audit, nr}] = c
		}
		for _, call := range stats {
			if nr, ok := syscallNumbers()[a.column][call]; ok && name == nativeArches()[0] {
				calls[[2]uint32{a.audit, nr}] = ownerCall{name: call, stat: true}
			}
		}
	}
	return calls
})

// startOwners serves a listener until nobody is left to be served.
func (r *runner) startOwners(listener int, text string) error {
	root, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		unix.Close(listener)
		return fail("record owners", fmt.Errorf("root %q: %w", text, err))
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(listener)
		return fail("record owners", err)
	}
	if r.Owners == nil {
		r.Owners = NewOwners(nil, nil)
	}
	if !r.joined {
		r.Owners.setBelow(r.Root.Links)
	}
	r.owners = &ownerServer{Owners: r.Owners, listener: listener, stop: stop, root: root}
	for range min(4, runtime.GOMAXPROCS(0)) {
		r.owners.serving.Go(r.owners.serve)
	}
	return nil
}

// aptStaysRoot tells apt not to become another user for its downloads: it would notice that it did not.
func aptStaysRoot() mount {
	m := newFile(File{Path: "/etc/apt/apt.conf.d/zz-nacre", Data: []byte("APT::Sandbox::User \"root\";\n")})
	m.Optional = true
	return m
}

// hasDir tells whether the root has a directory.
func (c *child) hasDir(name string) bool {
	fd, err := c.openIfThere(name)
	if err != nil || fd < 0 {
		return false
	}
	defer unix.Close(fd)
	return isDir(fd)
}
