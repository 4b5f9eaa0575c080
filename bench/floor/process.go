package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

func sleep(n int, seconds string) error {
	var list []*exec.Cmd
	for range n {
		cmd := exec.Command("sleep", seconds)
		if err := cmd.Start(); err != nil {
			return err
		}
		list = append(list, cmd)
	}
	for _, cmd := range list {
		if err := cmd.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// again is this program once more, as something else.
func again(flags uintptr, args ...string) error {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

func steps(root, scratch string, n int) error {
	target := filepath.Join(scratch, "root")
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	for i := range n {
		dir := filepath.Join(scratch, fmt.Sprint(i))
		if err := os.MkdirAll(dir+"/upper", 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(dir+"/work", 0o755); err != nil {
			return err
		}
		if err := again(namespaces, "child", root, dir, target); err != nil {
			return err
		}
	}
	return nil
}

// child mounts and becomes true.
func child(root, dir, target string) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	options := "lowerdir=" + root + ",upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := syscall.Mount("overlay", target, "overlay", 0, options); err != nil {
		return err
	}
	if err := syscall.Chroot(target); err != nil {
		return err
	}
	if err := syscall.Chdir("/"); err != nil {
		return err
	}
	return syscall.Exec("/bin/true", []string{"true"}, nil)
}

func inRoot(root, script string) error {
	return again(syscall.CLONE_NEWNS|syscall.CLONE_NEWPID, "inside", root, script)
}

// inside becomes a shell in root, with what programs expect of a machine.
func inside(root, script string) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{{"proc", "/proc", "proc", 0}, {"/dev", "/dev", "", syscall.MS_BIND | syscall.MS_REC}, {"/sys", "/sys", "", syscall.MS_BIND | syscall.MS_REC}} {
		if err := syscall.Mount(m.source, root+m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("%s: %w", m.target, err)
		}
	}
	for _, name := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(root+name, data, 0o644); err != nil {
			return err
		}
	}
	if err := syscall.Chroot(root); err != nil {
		return err
	}
	if err := syscall.Chdir("/"); err != nil {
		return err
	}
	path := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	return syscall.Exec("/bin/sh", []string{"sh", "-c", script}, []string{path, "HOME=/root"})
}
