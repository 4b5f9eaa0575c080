// Package sandbox turns an OCI runtime spec and a root into one running process,
// and that process into its exit code.
//
// In new namespaces the root is assembled, what the spec asks for is mounted, the host's
// root is left behind, what the process may not have is given up, and it is executed. For
// root a thread does that, with the process made beforehand (see thread), else this
// program itself, started again (see Init). Nothing stays behind when it
// ends: all mounts live in a mount namespace of its own, all its processes in a process
// namespace whose first process it is, and both die with it or with us.
//
// What the root is made of is rootfs's business, what goes into the spec the caller's.
package sandbox

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"nacre/internal/rootfs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Config is what to run, in what. Spec and Root are needed, the rest may be zero.
type Config struct {
	// Spec says how, as an OCI runtime spec; DefaultSpec makes one. Its Root.Readonly
	// counts, its Root.Path does not. Parts that are not supported are refused.
	Spec *specs.Spec
	// Root is attached in the new mount namespace; nothing of it is seen outside.
	Root rootfs.Mount
	// RootDir is a directory that is the root as it is, in place of Root: what has to be made for mounts is made in it.
	RootDir string
	// Tree is the root, in place of Root, where nothing can be mounted: see chroot.go. The Spec's namespaces, mounts and
	// devices have no effect then; Places are what is there while the process runs.
	Tree   *rootfs.WorkTree
	Places []rootfs.Place
	// Stdin is read until the process ends; nil is empty. A Read that is under way
	// when the process ends is not waited for.
	Stdin io.Reader
	// Stdout and Stderr get what the process writes, as it is written; nil drops it.
	// Equal values share one pipe, so that the order of writes is kept. With a terminal
	// all goes to Stdout.
	Stdout, Stderr io.Writer
	// Trees are other roots that mounts of the Spec are parts of: see MountTree.
	Trees []Tree
	// Files are put in the root without becoming part of it, after all mounts.
	Files []File
	// Init: the first process is an init, which starts the program, passes signals on to it, ends as it
	// does, and meanwhile takes the exit codes of processes that lost their parents.
	Init bool
	// Again: a Run of the like follows soon. It is prepared for (Warm) as soon as this
	// one's program is executed; before, the two would only slow each other down.
	Again bool
	// Created is called once all namespaces and mounts of the sandbox exist, while its process,
	// pid here, waits to go on: for what has to be done from outside, such as giving it a
	// network. It comes before the hooks of the Spec. An error is the Run's, as a *StartError.
	Created func(ctx context.Context, pid int) error
	// Started is called once the program is executed, before its output is read.
	Started func(Started)
	// Unmounts, where set, counts what is still mounted of the sandbox when Run returns: the kernel takes its time over that.
	Unmounts *sync.WaitGroup
	// Owners are those of links, where owners are recorded; nil: they begin with this Run.
	Owners *Owners
	// Signals are sent on to the process; the caller closes it or leaves it open.
	Signals <-chan os.Signal
	// Resize gives new sizes of the terminal, where Spec.Process.Terminal is set.
	Resize <-chan Size
}

// Started is what can be told of a process that runs.
type Started struct {
	Pid     int      // as we see it
	Cgroups []string // directories that were made for it; they go with it
	// Owner is as in Status.
	Owner *rootfs.Owner
}

// File is a file that is mounted over a path of the root.
type File struct {
	Path     string // absolute; symlinks are followed inside the root
	Data     []byte
	Mode     fs.FileMode // permission bits; 0 is 0644
	Writable bool        // what is written to it is lost
	UID, GID int
}

// Size is that of a terminal, in characters.
type Size struct{ Width, Height int }

// Status is how a process ended.
type Status struct {
	// Code is its exit code, 128+n where signal n ended it.
	Code int
	// Signal is the signal that ended it, or 0.
	Signal syscall.Signal
	// OOMKilled tells that the kernel ended some process of it because the memory limit was reached.
	OOMKilled bool
	// Created names the directories and files that had to be made in the writable side of
	// the root for something to be mounted on, without leading slash ("etc/hosts"), parents
	// before children. They are empty and not part of the result. Mostly there are none:
	// what is missing is put below the root's layers, and only where one of those hides
	// it, by a symlink or because it was deleted, it is made above.
	Created []string
	// Warnings say what of the spec could not be done, one line each: limits, where
	// no cgroup can be written.
	Warnings []string
	// Owner is to whom belongs what it made in the root, where files show another owner: the process was the one
	// user of a namespace. Else nil.
	Owner *rootfs.Owner
	// Recorded are the owners that it gave to links and the like, where owners are recorded: see rootfs.OwnerXattr.
	Recorded []rootfs.Recorded
	// Usage is what it used, with all its children.
	Usage Usage
}

// Usage is what a process and its children used.
type Usage struct {
	User, System syscall.Timeval
	MaxRSS       int64 // bytes, of the largest process
}

// StartError says why the process never ran.
type StartError struct {
	// Code is the exit code that Docker gives: 127 where there is no such program,
	// 126 where it cannot be executed, 125 where the sandbox could not be made.
	Code int
	Op   string // what was being done: `exec "foo"`, `mount /proc`
	Err  error
}

func (e *StartError) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }
func (e *StartError) Unwrap() error { return e.Err }

// Exit codes of a StartError.
const (
	CodeSandbox       = 125
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

func fail(op string, err error) *StartError {
	return &StartError{Code: CodeSandbox, Op: op, Err: err}
}
