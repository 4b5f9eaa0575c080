// Floor does the part of a workload that no builder can do without, and nothing else: what
// a builder takes beyond it is its own. Each command reads and writes real files.
//
//	floor exec                         nothing
//	floor tarsum DIR TAR               tar of a folder, written and hashed on one thread
//	floor walk DIR                     lstat of everything below, on two threads
//	floor sum DIR                      sha256 of every file, on as many threads as processors
//	floor copy DIR OUT                 all files into one, by copy_file_range
//	floor copysum FILE OUT             copy of a file that is hashed
//	floor gzip DIR                     all files compressed, in blocks, on as many threads as processors
//	floor fetch URL...                 fetched, unpacked and hashed, two at once
//	floor sleep N SECONDS              N times sleep(1), at once
//	floor steps ROOT SCRATCH N         N times true, in new namespaces and an overlay on ROOT, one after the other
//	floor chroot ROOT SCRIPT           sh -c SCRIPT in ROOT
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "floor: which one?")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "floor %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func run(name string, args []string) error {
	floors := map[string]struct {
		args int
		do   func([]string) error
	}{
		"exec":    {0, func([]string) error { return nil }},
		"tarsum":  {2, func(a []string) error { return tarSum(a[0], a[1]) }},
		"walk":    {1, func(a []string) error { return walk(a[0]) }},
		"sum":     {1, func(a []string) error { return sum(a[0]) }},
		"copy":    {2, func(a []string) error { return copyAll(a[0], a[1]) }},
		"copysum": {2, func(a []string) error { return copySum(a[0], a[1]) }},
		"gzip":    {1, func(a []string) error { return compress(a[0]) }},
		"fetch":   {1, fetch},
		"sleep":   {2, func(a []string) error { return counted(a[0], func(n int) error { return sleep(n, a[1]) }) }},
		"steps":   {3, func(a []string) error { return counted(a[2], func(n int) error { return steps(a[0], a[1], n) }) }},
		"child":   {3, func(a []string) error { return child(a[0], a[1], a[2]) }},
		"chroot":  {2, func(a []string) error { return inRoot(a[0], a[1]) }},
		"inside":  {2, func(a []string) error { return inside(a[0], a[1]) }},
	}
	f, ok := floors[name]
	if !ok || len(args) < f.args {
		return fmt.Errorf("not known, or too few arguments")
	}
	return f.do(args)
}

func counted(s string, f func(int) error) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return err
	}
	return f(n)
}
