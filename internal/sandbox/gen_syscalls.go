//go:build ignore

// gen_syscalls prints syscalls.txt: the numbers of all system calls on the architectures the
// seccomp compiler knows, from the tables of golang.org/x/sys/unix. Those have no x32,
// which shares amd64's numbers but for the calls listed here.
//
//	go run gen_syscalls.go $(go list -m -f '{{.Dir}}' golang.org/x/sys)/unix > syscalls.txt
package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// x32own are the calls whose x32 form has its own number (arch/x86/entry/syscalls/syscall_64.tbl,
// entries of the abi "x32"), in order from 512.
const x32own = "rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace rt_sigpending " +
	"rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid set_robust_list " +
	"get_robust_list vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg process_vm_readv " +
	"process_vm_writev setsockopt getsockopt io_setup io_submit execveat preadv2 pwritev2"

// x32none are those of the abi "64" that x32 does not have at all.
const x32none = "uselib _sysctl create_module get_kernel_syms query_module nfsservctl set_thread_area " +
	"get_thread_area epoll_ctl_old epoll_wait_old vserver uretprobe uprobe map_shadow_stack"

// armPrivate are above the table (arch/arm/include/uapi/asm/unistd.h).
var armPrivate = map[string]int{
	"breakpoint": 0xf0001, "cacheflush": 0xf0002, "usr26": 0xf0003, "usr32": 0xf0004, "set_tls": 0xf0005, "get_tls": 0xf0006,
}

func main() {
	tables := map[string]map[string]int{}
	for _, arch := range []string{"amd64", "386", "arm64", "arm"} {
		tables[arch] = read(filepath.Join(os.Args[1], "zsysnum_linux_"+arch+".go"))
	}
	maps.Copy(tables["arm"], armPrivate)
	x32 := maps.Clone(tables["amd64"])
	for _, name := range strings.Fields(x32none) {
		delete(x32, name)
	}
	for i, name := range strings.Fields(x32own) {
		x32[name] = 512 + i
	}
	tables["x32"] = x32
	names := map[string]bool{}
	for _, t := range tables {
		for name := range t {
			names[name] = true
		}
	}
	arches := []string{"amd64", "x32", "386", "arm64", "arm"}
	fmt.Println("#", strings.Join(arches, " "))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Print(name)
		for _, arch := range arches {
			if n, ok := tables[arch][name]; ok {
				fmt.Printf(" %d", n)
			} else {
				fmt.Print(" -")
			}
		}
		fmt.Println()
	}
}

func read(path string) map[string]int {
	f, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	table := map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, ok := strings.Cut(strings.TrimSpace(s.Text()), "=")
		if name, is := strings.CutPrefix(strings.TrimSpace(name), "SYS_"); ok && is {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				panic(err)
			}
			table[strings.ToLower(name)] = n
		}
	}
	return table
}
