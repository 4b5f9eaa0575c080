package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// settings are files of the kernel by which the whole machine is changed.
var settings = []string{
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/panic", "/proc/sys/kernel/randomize_va_space",
	"/proc/sys/vm/overcommit_memory", "/proc/sys/fs/file-max", "/proc/sys/fs/protected_hardlinks", "/proc/sys/fs/suid_dumpable",
	"/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/module/printk/parameters/time",
}

// hidden are those that tell of the machine.
var hidden = []string{
	"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/acpi", "/proc/asound", "/proc/latency_stats", "/proc/timer_stats",
	"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/devices/system/cpu/cpu0/thermal_throttle",
}

func files() map[string]trick {
	all := map[string]trick{
		"open /proc/sysrq-trigger": openTrick("/proc/sysrq-trigger", unix.O_WRONLY),
		"open /proc/kmsg":          openTrick("/proc/kmsg", unix.O_RDONLY),
		"open /proc/bus":           openTrick("/proc/bus/pci/00/00.0", unix.O_WRONLY),
		"open /proc/irq":           openTrick("/proc/irq/default_smp_affinity", unix.O_WRONLY),
	}
	for _, name := range settings {
		all["write "+name] = writeBack(name)
	}
	for _, name := range hidden {
		all["read "+name] = readHidden(name)
	}
	return all
}

func absentOr(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%w: %w", errAbsent, err)
	}
	return err
}

func openTrick(name string, flags int) trick {
	return func() (string, error) {
		fd, err := unix.Open(name, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", absentOr(&fs.PathError{Op: "open", Path: name, Err: err})
		}
		return "open", unix.Close(fd)
	}
}

// writeBack writes to a setting what it is.
func writeBack(name string) trick {
	return func() (string, error) {
		data, err := os.ReadFile(name)
		if err != nil {
			return "", absentOr(err)
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		var fs unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC && fs.Type != unix.SYSFS_MAGIC {
			return "", fmt.Errorf("something else lies there: %v", err)
		}
		if strings.Contains(string(data), "[") { // a choice: always [madvise] never
			data = regexp.MustCompile(`\[(.*)\]`).FindSubmatch(data)[1]
		}
		if _, err = f.Write(data); err != nil && len(data) > 0 {
			return gate(err)
		}
		return "written", nil
	}
}

// readHidden gets something to read out of a file or directory.
func readHidden(name string) trick {
	return func() (string, error) {
		f, err := os.Open(name)
		if err != nil {
			return "", absentOr(err)
		}
		defer f.Close()
		entries, err := f.ReadDir(-1)
		if err == nil {
			if len(entries) == 0 {
				return "", errors.New("an empty directory")
			}
			return fmt.Sprintf("%d entries", len(entries)), nil
		}
		if n, err := f.Read(make([]byte, 10)); n == 0 {
			if err == io.EOF {
				return "", errors.New("an empty file")
			}
			return "", err
		}
		return "something", nil
	}
}

// writable prints all files below directories that it may open for writing. It writes nothing.
func writable(dirs []string) error {
	own := regexp.MustCompile(`^/proc/(\d+|self|thread-self)(/|$)`)
	for _, dir := range dirs {
		filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || own.MatchString(name):
				if d != nil && d.IsDir() {
					return fs.SkipDir
				}
			case d.Type().IsRegular():
				fd, err := unix.Open(name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
				if err != nil {
					return nil
				}
				var st unix.Stat_t // root may open files that nobody can write to, and a null device may lie on one
				if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o222 != 0 {
					fmt.Println(name)
				}
				unix.Close(fd)
			}
			return nil
		})
	}
	return nil
}

// devices are made and opened, in every place that may allow it.
func devices() map[string]trick {
	all := map[string]trick{
		"disk": func() (string, error) {
			text, err := fact("DISK")
			if err != nil {
				return "", err
			}
			var major, minor uint32
			fmt.Sscan(text, &major, &minor)
			return openNode(unix.S_IFBLK, major, minor)
		},
	}
	for name, minor := range map[string]uint32{"memory": 1, "ports": 4, "kernel log": 11} {
		all[name+" device"] = func() (string, error) { return openNode(unix.S_IFCHR, 1, minor) }
	}
	for name, minor := range map[string]uint32{"fuse": 229, "kvm": 232, "loop control": 237, "btrfs": 234, "tun": 200} {
		all[name+" device"] = func() (string, error) { return openNode(unix.S_IFCHR, 10, minor) }
	}
	return all
}

// placesForNodes: the root, those of a container that are other file systems, and where the test mounted something.
var placesForNodes = []string{"/", "/dev", "/dev/shm", "/dev/mqueue", "/tmp", "/run", "/vol", "/bind"}

func openNode(kind, major, minor uint32) (string, error) {
	var last error = errAbsent
	tries := 0
	for _, dir := range placesForNodes {
		name := fmt.Sprintf("%s/escape-%d-%d-%d", strings.TrimSuffix(dir, "/"), os.Getpid(), major, minor)
		if err := unix.Mknod(name, kind|0o600, int(unix.Mkdev(major, minor))); err != nil {
			if !errors.Is(err, unix.ENOENT) {
				last, tries = err, tries+1
			}
			continue
		}
		tries++
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		unix.Unlink(name)
		switch {
		case err == nil:
			unix.Close(fd)
			return "opened in " + dir, nil
		case errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV): // nothing in the way but that there is no such device
			return "", errAbsent
		}
		last = err
	}
	return "", fmt.Errorf("in %d places: %w", tries, last)
}

// byHandle opens a file of the machine's by its number, which it finds by counting; the test tells it.
func byHandle() (string, error) {
	text, err := fact("HANDLE") // TYPE HEX
	if err != nil {
		return "", err
	}
	kind, bytes, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(kind)
	if err != nil {
		return "", err
	}
	raw, err := hex.DecodeString(bytes)
	if err != nil {
		return "", err
	}
	var last error
	for _, dir := range []string{"/vol", "/bind", "/", "/etc/hosts", "/etc/resolv.conf"} {
		at, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			last = err
			continue
		}
		fd, err := unix.OpenByHandleAt(at, unix.NewFileHandle(int32(n), raw), unix.O_RDONLY)
		if err != nil {
			last = err
			continue
		}
		buf := make([]byte, 13)
		if unix.Read(fd, buf); string(buf) == "escape-secret" {
			return "read from " + dir, nil
		}
	}
	return "", last
}
