package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probe is what this program does inside of a sandbox: it tries things and says what
// came of them.
func probe(args []string) int {
	switch args[0] {
	case "crash":
		// The runtime would make a panic of it.
		var byDefault [4]uint64
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGSEGV), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
		var nowhere *int
		*nowhere = len(args)
	case "syscalls":
		for _, name := range args[1:] {
			fmt.Printf("%s: %s\n", name, errnoName(syscalls[name]()))
		}
	case "open":
		for _, name := range args[1:] {
			fmt.Printf("%s: %s\n", name, tryOpen(name))
		}
	case "devices":
		for _, name := range args[1:] {
			fmt.Printf("%s: %s\n", name, errnoName(tryDevice(name)))
		}
	case "argv":
		fmt.Printf("%q\n%q\n", os.Args[1:], os.Environ())
	case "loopback":
		return loopback()
	case "forget-parent":
		unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		fmt.Println("ready")
		time.Sleep(time.Minute)
	case "self":
		var fs unix.Statfs_t
		err := unix.Statfs("/proc/self/exe", &fs)
		fmt.Println("read-only:", fs.Flags&unix.ST_RDONLY != 0, err)
	case "rlimit":
		for _, name := range args[1:] {
			var l unix.Rlimit
			n, _ := strconv.Atoi(name)
			unix.Prlimit(0, n, nil, &l)
			fmt.Println(n, l.Cur, l.Max)
		}
	case "eat":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
			if len(all) > 4096 {
				return 0
			}
		}
	case "forks":
		return forks()
	default:
		fmt.Println("no such probe")
		return 99
	}
	return 0
}

func errnoName(errno syscall.Errno) string {
	if errno == 0 {
		return "ok"
	}
	return unix.ErrnoName(errno)
}

func tryOpen(name string) string {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		return errnoName(errno)
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, make([]byte, 16))
	if errors.Is(err, unix.EISDIR) {
		entries, _ := os.ReadDir(name)
		return fmt.Sprint("dir ", len(entries))
	}
	if err != nil {
		return "read: " + err.Error()
	}
	return fmt.Sprint("read ", n)
}

func raw(nr uintptr, a ...uintptr) func() syscall.Errno {
	return func() syscall.Errno {
		a = append(slices.Clone(a), 0, 0, 0, 0, 0, 0)
		_, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		return errno
	}
}

// cloneWith makes a process that does nothing, with flags.
func cloneWith(flags uintptr) func() syscall.Errno {
	return func() syscall.Errno {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && pid == 0 {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return errno
	}
}

var syscalls = map[string]func() syscall.Errno{
	"getpid":              raw(unix.SYS_GETPID),
	"keyctl":              raw(unix.SYS_KEYCTL, 0, 0, 0),
	"add_key":             raw(unix.SYS_ADD_KEY),
	"mount":               raw(unix.SYS_MOUNT),
	"umount2":             raw(unix.SYS_UMOUNT2),
	"fsopen":              raw(unix.SYS_FSOPEN),
	"open_tree":           raw(unix.SYS_OPEN_TREE),
	"pivot_root":          raw(unix.SYS_PIVOT_ROOT),
	"setns":               raw(unix.SYS_SETNS),
	"bpf":                 raw(unix.SYS_BPF),
	"perf_event_open":     raw(unix.SYS_PERF_EVENT_OPEN),
	"userfaultfd":         raw(unix.SYS_USERFAULTFD),
	"io_uring_setup":      raw(unix.SYS_IO_URING_SETUP),
	"init_module":         raw(unix.SYS_INIT_MODULE),
	"kexec_load":          raw(unix.SYS_KEXEC_LOAD),
	"reboot":              raw(unix.SYS_REBOOT),
	"swapon":              raw(unix.SYS_SWAPON),
	"settimeofday":        raw(unix.SYS_SETTIMEOFDAY),
	"sethostname":         raw(unix.SYS_SETHOSTNAME),
	"unshare(user)":       raw(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
	"unshare(0)":          raw(unix.SYS_UNSHARE, 0),
	"clone()":             cloneWith(0),
	"clone(user)":         cloneWith(unix.CLONE_NEWUSER),
	"clone(net)":          cloneWith(unix.CLONE_NEWNET),
	"clone3":              raw(unix.SYS_CLONE3),
	"newer than all":      raw(1000),
	"personality(query)":  raw(unix.SYS_PERSONALITY, 0xffffffff),
	"personality(linux)":  raw(unix.SYS_PERSONALITY, 0),
	"personality(8)":      raw(unix.SYS_PERSONALITY, 8),
	"personality(uname)":  raw(unix.SYS_PERSONALITY, 0x20000),
	"personality(norand)": raw(unix.SYS_PERSONALITY, 0x40000),
	"personality(high)":   raw(unix.SYS_PERSONALITY, 1<<32),
	"socket(inet)":        raw(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0),
	"socket(unix)":        raw(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0),
	"socket(alg)":         raw(unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
	"socket(vsock)":       raw(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"socket(39)":          raw(unix.SYS_SOCKET, 39, unix.SOCK_STREAM, 0),
	"socket(41)":          raw(unix.SYS_SOCKET, 41, unix.SOCK_STREAM, 0),
	"ptrace":              raw(unix.SYS_PTRACE, unix.PTRACE_TRACEME),
	"chroot":              raw(unix.SYS_CHROOT, uintptr(unsafe.Pointer(&[]byte("/\x00")[0]))),
	"mknod":               raw(unix.SYS_MKNOD, uintptr(unsafe.Pointer(&[]byte("/tmp/node\x00")[0])), unix.S_IFBLK|0o600, 0x801),
	"mknod in /dev":       raw(unix.SYS_MKNOD, uintptr(unsafe.Pointer(&[]byte("/dev/node\x00")[0])), unix.S_IFBLK|0o666, 254<<8),
	"mknod in shm":        raw(unix.SYS_MKNOD, uintptr(unsafe.Pointer(&[]byte("/dev/shm/node\x00")[0])), unix.S_IFCHR|0o666, 0x103),
}

// loopback listens on port 80 and connects to it. (Package net would be linked to C.)
func loopback() int {
	addr := &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	check(err)
	check(unix.Bind(l, addr))
	check(unix.Listen(l, 1))
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	check(err)
	check(unix.Connect(c, addr))
	s, _, err := unix.Accept(l)
	check(err)
	_, err = unix.Write(s, []byte("hello over lo\n"))
	check(err)
	buf := make([]byte, 100)
	n, err := unix.Read(c, buf)
	check(err)
	os.Stdout.Write(buf[:n])
	data, err := os.ReadFile("/proc/net/dev")
	check(err)
	for line := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			fmt.Println(strings.TrimSpace(name))
		}
	}
	return 0
}

// forks starts processes until it is stopped, and says how many there were.
func forks() int {
	n := 0
	for range 200 {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			fmt.Println(errnoName(errno))
			break
		}
		if pid == 0 {
			syscall.RawSyscall(unix.SYS_PAUSE, 0, 0, 0)
		}
		n++
	}
	fmt.Println(strings.Repeat("x", min(n, 100)))
	return 0
}
