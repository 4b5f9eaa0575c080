package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const diskSize = 40 << 30 // bytes, of a sparse file

// freshDisk mounts a new ext4 with a journal below dir, so that every run starts with the same: what was made and
// removed on a file system before tells in what comes after (without a journal ext4 keeps away from inodes that were
// freed in the last minutes, and looks for others one by one). Without loop devices it is dir itself, and says so.
func freshDisk(dir string) (place string, remove func(), err error) {
	file, place := filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk")
	if err := os.MkdirAll(place, 0o755); err != nil {
		return "", nil, err
	}
	unlock, err := alone(dir)
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	_ = exec.Command("umount", place).Run() // of a run that was killed
	f, err := os.Create(file)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	remove = func() {
		defer unlock()
		if out, err := exec.Command("umount", place).CombinedOutput(); err != nil {
			fmt.Printf("bench: %s", out)
			_ = exec.Command("umount", "-l", place).Run()
		}
		os.Remove(file)
	}
	if err := f.Truncate(diskSize); err != nil {
		return "", nil, err
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-N", "4000000", file},
		{"mount", "-o", "loop", file, place},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			os.Remove(file)
			fmt.Printf("no disk of its own, stores are made in %s: %s: %s\n", dir, args[0], strings.TrimSpace(string(out)))
			return dir, unlock, nil
		}
	}
	return place, remove, nil
}

// alone keeps others from dir until unlock: a second run would unmount the first one's disk and write over it.
func alone(dir string) (unlock func(), err error) {
	f, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: another benchmark is running there: %w", dir, err)
	}
	return func() { f.Close() }, nil
}
