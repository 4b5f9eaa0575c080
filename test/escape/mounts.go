package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// mounts are what is done to the mount namespace. Outside, the test runs them in one of their own.
func mounts() map[string]trick {
	return map[string]trick{
		"mount tmpfs":   newMount("tmpfs", ""),
		"mount proc":    newMount("proc", ""),
		"mount sysfs":   newMount("sysfs", ""),
		"mount devpts":  newMount("devpts", "newinstance"),
		"mount cgroup2": newMount("cgroup2", ""),
		"bind mount":    bindMount,

		"mount binfmt_misc": newMount("binfmt_misc", ""),
		"register a format": registerFormat,
		"fsopen":            gated(func() error { _, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC); return err }),
		"open_tree": gated(func() error {
			_, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			return err
		}),
		"move_mount": gated(func() error {
			return unix.MoveMount(-1, "", -1, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		}),
		"mount_setattr": gated(func() error {
			return unix.MountSetattr(unix.AT_FDCWD, "/proc/sys", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		}),
		"remount /proc/sys":    gated(func() error { return unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "") }),
		"unmount /proc/keys":   gated(func() error { return unix.Unmount("/proc/keys", unix.MNT_DETACH) }),
		"unmount /proc/sys":    gated(func() error { return unix.Unmount("/proc/sys", unix.MNT_DETACH) }),
		"pivot_root":           gated(func() error { return unix.PivotRoot("/nacre-escape-nowhere", "/nacre-escape-nowhere") }),
		"cgroup release agent": releaseAgent,
		"cgroup directory":     cgroupDir,
		"chroot":               chrootOut,
	}
}

// scratch is a directory that can be mounted on.
func scratch() (string, func(), error) {
	dir, err := os.MkdirTemp("", "escape-")
	if err != nil {
		dir, err = os.MkdirTemp("/dev/shm", "escape-")
	}
	return dir, func() {
		unix.Unmount(dir, unix.MNT_DETACH)
		os.Remove(dir)
	}, err
}

func newMount(kind, data string) trick {
	return func() (string, error) {
		dir, done, err := scratch()
		if err != nil {
			return "", err
		}
		defer done()
		return gate(unix.Mount(kind, dir, kind, 0, data))
	}
}

func bindMount() (string, error) {
	dir, done, err := scratch()
	if err != nil {
		return "", err
	}
	defer done()
	return gate(unix.Mount("/", dir, "", unix.MS_BIND|unix.MS_REC, ""))
}

// releaseAgent makes a hierarchy of cgroups of its own, of which the kernel would execute a program of the machine's.
func releaseAgent() (string, error) {
	dir, done, err := scratch()
	if err != nil {
		return "", err
	}
	defer done()
	if err := unix.Mount("cgroup", dir, "cgroup", 0, "none,name=nacre-escape"); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return "", errAbsent
		}
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "release_agent"), []byte("/nacre-escape-nowhere"), 0); err != nil {
		return "", err
	}
	return "the kernel would execute a program", nil
}

// registerFormat opens the file by which programs of a new format get an interpreter, which the kernel executes for whoever
// executes one.
func registerFormat() (string, error) {
	for _, name := range []string{"/proc/sys/fs/binfmt_misc/register", "/proc/sys/fs/binfmt_misc/status"} {
		fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			return name + " is open", nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return "", err
		}
	}
	dir, done, err := scratch()
	if err != nil {
		return "", err
	}
	defer done()
	if err := unix.Mount("binfmt_misc", dir, "binfmt_misc", 0, ""); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return "", errAbsent
		}
		return "", err
	}
	fd, err := unix.Open(dir+"/register", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	return "register is open", unix.Close(fd)
}

// cgroupDir makes a cgroup beside or below its own.
func cgroupDir() (string, error) {
	found, _ := filepath.Glob("/sys/fs/cgroup/*")
	var last error = errAbsent
	for _, at := range append([]string{"/sys/fs/cgroup"}, found...) {
		if _, err := os.Stat(at + "/cgroup.procs"); err != nil {
			continue
		}
		dir := fmt.Sprintf("%s/nacre-escape-%d", at, os.Getpid())
		if last = os.Mkdir(dir, 0o755); last == nil {
			syscall.Rmdir(dir)
			return dir, nil
		}
	}
	return "", last
}

// chrootOut changes the root to a directory below the working directory, which then is outside of the root.
func chrootOut() (string, error) {
	dir, done, err := scratch()
	if err != nil {
		return "", err
	}
	defer done()
	if err := unix.Chdir("/"); err != nil {
		return "", err
	}
	if err := unix.Chroot(dir); err != nil {
		return "", err
	}
	for range 64 {
		if err := unix.Chdir(".."); err != nil {
			return "", err
		}
	}
	if err := unix.Chroot("."); err != nil {
		return "", err
	}
	return secretAt("/")
}
