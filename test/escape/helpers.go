package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// become executes a command in place of this process.
func become(argv []string) error {
	if len(argv) == 0 {
		return errors.New("no command")
	}
	return fmt.Errorf("%s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}

func jail(args []string) error {
	if err := unix.Chroot(args[0]); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return become(args[1:])
}

func leakJail(args []string) error {
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Chroot(args[0]); err != nil {
		return err
	}
	return become(args[1:])
}

func leak(args []string) error {
	fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	for _, n := range []int{7, 9} {
		if err := unix.Dup3(fd, n, 0); err != nil {
			return err
		}
	}
	return become(args[1:])
}

// nest runs a command in namespaces of its own, where it is root.
func nest(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	one := []syscall.SysProcIDMap{{Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP, UidMappings: one, GidMappings: one}
	return cmd.Run()
}

// inKeyring starts a command in a session whose keyring has a key.
func inKeyring(args []string) error {
	if _, err := unix.KeyctlJoinSessionKeyring("nacre-escape"); err != nil {
		return err
	}
	if err := addKey(args[:1]); err != nil {
		return err
	}
	return become(args[1:])
}

func addKey(args []string) error {
	id, err := unix.AddKey("user", args[0], []byte("escape-secret"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		return err
	}
	return unix.KeyctlSetperm(id, 0x3f3f0000) // for who possesses it and its owner
}

// keep adds a key to its session's keyring, and stays.
func keep(args []string) error {
	if err := addKey(args); err != nil {
		return err
	}
	time.Sleep(time.Hour)
	return nil
}

// readKey finds a key in the session's keyring, or anywhere the kernel looks for one.
func readKey(args []string) error {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", args[0], 0)
	if err != nil {
		if id, err = unix.RequestKey("user", args[0], "", 0); err != nil {
			return err
		}
	}
	buf := make([]byte, 100)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0)
	if err == nil {
		fmt.Println(string(buf[:n]))
	}
	return err
}

// swap exchanges two names until it is killed.
func swap(args []string) error {
	fmt.Println("ready")
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1], unix.RENAME_EXCHANGE); err != nil {
			return err
		}
	}
}

// sti types on every terminal that it finds: what is typed on another's is executed there.
func sti(args []string) error {
	names, _ := filepath.Glob("/dev/pts/[0-9]*")
	for _, name := range append(names, "/dev/tty", "/dev/console", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2") {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = typeOn(fd, args[0])
			unix.Close(fd)
		}
		fmt.Printf("%s: %v\n", name, err)
	}
	for fd := range 3 {
		fmt.Printf("%d: %v\n", fd, typeOn(fd, args[0]))
	}
	return nil
}

func typeOn(fd int, text string) error {
	for i := range len(text) {
		c := text[i]
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&c))); errno != 0 {
			return errno
		}
	}
	return nil
}

func ids([]string) error {
	fmt.Println(unix.Getuid(), unix.Geteuid())
	return nil
}

// grab opens the programs of all other processes for writing: first for nothing, then, while that holds the file, again
// and again until nobody executes it (CVE-2019-5736). It goes on until it is killed.
func grab([]string) error {
	fmt.Println("ready")
	held := map[uint64]int{}
	for {
		found, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range found {
			fd, err := unix.Open(dir+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil || held[st.Ino] != 0 || len(held) > 100 {
				unix.Close(fd)
				continue
			}
			held[st.Ino] = fd
			name, _ := os.Readlink(dir + "/exe")
			fmt.Println("holds", name)
		}
		for ino, fd := range held {
			w, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			fmt.Println("could write to", name)
			unix.Close(w)
			unix.Close(fd)
			held[ino] = -1
		}
	}
}

// watch looks for processes that come, and says what can be seen of those that do not execute one of the given files:
// they are helpers of who runs the container, on their way to become one of its programs.
func watch(args []string) error {
	own := map[[2]uint64]bool{}
	for _, name := range append(args, "/proc/self/exe") {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return err
		}
		own[[2]uint64{st.Dev, st.Ino}] = true
	}
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(out, "ready")
	out.Flush()
	load, err := os.Open("/proc/loadavg")
	if err != nil {
		return err
	}
	next := os.Getpid() + 1
	caught := map[string]bool{}
	for {
		next = max(next, lastPID(load)-1) // many may have come and gone while others had the processor
		for pid := next; pid < next+4; pid++ {
			dir := "/proc/" + strconv.Itoa(pid)
			var st unix.Stat_t
			if err := unix.Stat(dir+"/exe", &st); err != nil {
				if !errors.Is(err, unix.ENOENT) || unix.Stat(dir, &st) == nil {
					next = pid // it is there
				}
				continue
			}
			next = pid
			if own[[2]uint64{st.Dev, st.Ino}] {
				next = pid + 1
				continue
			}
			if text := look(dir); text != "" && !caught[text] {
				caught[text] = true
				fmt.Fprintln(out, "caught", text)
				out.Flush()
			}
		}
	}
}

// lastPID is the process made last: the last field of /proc/loadavg.
func lastPID(load *os.File) int {
	buf := make([]byte, 100)
	n, _ := load.ReadAt(buf, 0)
	fields := strings.Fields(string(buf[:n]))
	if len(fields) == 0 {
		return 0
	}
	pid, _ := strconv.Atoi(fields[len(fields)-1])
	return pid
}
