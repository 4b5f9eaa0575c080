// Escape tries known ways out of a container, and says what came of each. The tests run it where every way has
// to be closed, and where some are open, which shows that they would be seen to be.
//
// What it finds open it leaves as it was: files get what they have, the kernel gets arguments that it refuses
// once it has found the caller to have the right.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errAbsent: this machine does not have what the trick is about.
var errAbsent = errors.New("not on this machine")

// A trick returns what it got hold of, or the error that kept it from it.
type trick func() (string, error)

const usage = `usage: escape COMMAND [ARG...]
  list, try [NAME...], one NAME   the tricks; try all or some; one, in this process
  secret, writable DIR...         the one of the machine, by any way; files below DIR that could be written to
  id, sti TEXT, key NAME          who this is; type on all terminals there are; read a key
  keep NAME, grab, watch FILE   keep a key; open others' programs; look into processes that are none of FILE
  swap A B                        exchange two names, for ever
  jail DIR COMMAND...             what a container without walls is: COMMAND with DIR as its root,
  leakjail DIR COMMAND...         and in a directory outside of it
  leak DIR COMMAND...             COMMAND with DIR open as descriptors 7 and 9
  nest COMMAND...                 COMMAND in user, mount and cgroup namespaces of its own
  keyring NAME COMMAND...         COMMAND with a session keyring that has a key`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	args := os.Args[2:]
	commands := map[string]func([]string) error{
		"list": list, "try": tryAll, "one": tryOne, "writable": writable, "secret": printSecret,
		"jail": jail, "leak": leak, "leakjail": leakJail, "keyring": inKeyring, "nest": nest, "key": readKey, "keep": keep,
		"swap": swap, "watch": watch, "sti": sti, "id": ids, "grab": grab,
	}
	run, ok := commands[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(args); err != nil {
		fmt.Fprintf(os.Stderr, "escape %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// tricks are all there are, by name.
func tricks() map[string]trick {
	all := map[string]trick{}
	for _, some := range []map[string]trick{calls(), narrow(), mounts(), namespaces(), processes(), files(), devices(), sockets()} {
		for name, t := range some {
			if all[name] != nil {
				panic("two tricks of one name: " + name)
			}
			all[name] = t
		}
	}
	return all
}

func names() []string {
	var out []string
	for name := range tricks() {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func list([]string) error {
	fmt.Println(strings.Join(names(), "\n"))
	return nil
}

// tryAll tries tricks, each in a process of its own: some leave nothing as it was. No names are all.
func tryAll(args []string) error {
	which := args
	if len(args) == 0 {
		which = names()
	}
	self, err := os.Executable()
	if err != nil {
		self = "/escape" // no /proc
	}
	for _, name := range which {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, self, "one", name)
		cmd.WaitDelay = time.Second
		cmd.Stdin = os.Stdin // /dev/null may be anything in here
		out, err := cmd.CombinedOutput()
		cancel()
		text := strings.TrimSpace(string(out))
		if err != nil || !strings.HasPrefix(text, name+": ") {
			text = fmt.Sprintf("%s: broken: %v %q", name, err, text)
		}
		fmt.Println(strings.ReplaceAll(text, "\n", " "))
	}
	return nil
}

func tryOne(args []string) error {
	if len(args) != 1 {
		return errors.New("want one name")
	}
	t, ok := tricks()[args[0]]
	if !ok {
		t, ok = granted()[args[0]]
	}
	if !ok {
		return fmt.Errorf("no trick %q", args[0])
	}
	got, err := t()
	switch {
	case errors.Is(err, errAbsent):
		fmt.Printf("%s: absent: %v\n", args[0], err)
	case err != nil:
		fmt.Printf("%s: refused: %v\n", args[0], err)
	default:
		fmt.Printf("%s: through: %s\n", args[0], got)
	}
	return nil
}

// gate judges a call that has to be refused for want of rights, before the kernel looks at its arguments.
func gate(err error) (string, error) {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return "", err
	}
	switch errno {
	case 0:
		return "done", nil
	case unix.EPERM, unix.EACCES, unix.EROFS:
		return "", errno
	case unix.ENOSYS, unix.EAFNOSUPPORT:
		return "", fmt.Errorf("%w: %w", errAbsent, errno)
	}
	return "the kernel went on to its arguments: " + errno.Error(), nil
}

// raw is a system call as a trick.
func raw(nr uintptr, a ...uintptr) trick {
	return func() (string, error) {
		a = append(slices.Clone(a), 0, 0, 0, 0, 0, 0)
		_, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno != 0 {
			return gate(errno)
		}
		return "done", nil
	}
}

// gated is a function that stands behind a right, as a trick.
func gated(f func() error) trick {
	return func() (string, error) { return gate(f()) }
}

// fact is what the test tells of the machine outside.
func fact(name string) (string, error) {
	if v := os.Getenv("ESCAPE_" + name); v != "" {
		return v, nil
	}
	return "", fmt.Errorf("ESCAPE_%s is not set", name)
}
