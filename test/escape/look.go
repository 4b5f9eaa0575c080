package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// look tells what a process is and has open, as far as one may know: FD=WHOSE:PATH. Paths say nothing of where a file is:
// the machine's root is called /, as one's own is. So it says whose each is:
//
//	own      on a mount that is here, too
//	null     the null device, of whichever mount
//	memory   a file that is nowhere but in memory
//	foreign  on a mount that is elsewhere
func look(dir string) string {
	exe, err := os.Readlink(dir + "/exe")
	if err != nil {
		return "" // it has ended
	}
	files := map[int]int{}
	for n := range 64 { // taken first: the process goes on meanwhile
		if fd, err := unix.Open(fmt.Sprintf("%s/fd/%d", dir, n), unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			files[n] = fd
		}
	}
	environ, _ := os.ReadFile(dir + "/environ")
	text := []string{exe}
	here := mountsHere()
	for n := range 64 {
		fd, ok := files[n]
		if !ok {
			continue
		}
		if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(link, "/") {
			text = append(text, fmt.Sprintf("%d=%s:%s", n, whose(fd, here), link))
		}
		unix.Close(fd)
	}
	if len(environ) > 0 {
		text = append(text, fmt.Sprintf("%d bytes of environment", len(environ)))
	}
	return strings.Join(text, " ")
}

// mountsHere are the numbers of those that are here. No two mounts of a machine have the same.
func mountsHere() map[uint64]bool {
	ids := map[uint64]bool{}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ids
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var id uint64
		fmt.Sscan(lines.Text(), &id)
		ids[id] = true
	}
	return ids
}

func whose(fd int, here map[uint64]bool) string {
	var st unix.Statx_t
	switch err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); {
	case err != nil || st.Mask&unix.STATX_MNT_ID == 0:
		return "foreign"
	case here[st.Mnt_id]:
		return "own"
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev_major == 1 && st.Rdev_minor == 3:
		return "null"
	case inMemory(&st):
		return "memory"
	}
	return "foreign"
}

// inMemory tells whether a file is on the kernel's own mount of those that memfd_create(2) makes.
func inMemory(of *unix.Statx_t) bool {
	fd, err := unix.MemfdCreate("nacre-escape", unix.MFD_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	return err == nil && st.Mnt_id == of.Mnt_id && of.Nlink == 0
}
