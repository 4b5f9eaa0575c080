package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// Form tells how layers are mounted.
type Form int

const (
	Index Form = iota // EROFS images with their data in the layer's tar
	Trees             // directories
)

func (f Form) String() string {
	if f == Trees {
		return "trees"
	}
	return "index"
}

// probeName holds what Probe found, a line for each system and user.
const probeName = "form"

// maxProbeLines keeps the file small where kernels come and go.
const maxProbeLines = 16

// Probe tells in which form layers kept below dir can be mounted by this process. It
// mounts a tiny root, in a mount namespace of its own, and remembers the answer in
// dir for this kernel, user and device.
func Probe(dir string) (Form, error) {
	key, err := probeKey(dir)
	if err != nil {
		return Trees, fmt.Errorf("probe %s: %w", dir, err)
	}
	file := filepath.Join(dir, probeName)
	known, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Trees, fmt.Errorf("probe: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(known)), "\n")
	for _, line := range lines {
		switch strings.TrimPrefix(line, key+" ") {
		case Index.String():
			return Index, nil
		case Trees.String():
			return Trees, nil
		}
	}
	form, err := probe(dir)
	if err != nil {
		return Trees, fmt.Errorf("probe %s: %w", dir, err)
	}
	lines = append([]string{key + " " + form.String()}, lines...)
	if len(lines) > maxProbeLines {
		lines = lines[:maxProbeLines]
	}
	return form, replaceFile(file, strings.TrimSpace(strings.Join(lines, "\n"))+"\n")
}

// probeKey is everything the answer depends on, as one word or more.
func probeKey(dir string) (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", os.NewSyscallError("uname", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	can := "unprivileged"
	if !UserXattr() {
		can = "privileged"
	}
	return fmt.Sprintf("%s uid=%d dev=%d %s", unix.ByteSliceToString(u.Release[:]), os.Geteuid(), st.Dev, can), nil
}

// initUserNS is the inode of the initial user namespace (PROC_USER_INIT_INO).
const initUserNS = 0xEFFFFFFD

// UserXattr tells whether this process has to keep overlay's marks in user.overlay.*:
// trusted.* takes CAP_SYS_ADMIN in the initial user namespace.
func UserXattr() bool {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &st); err == nil && st.Ino != initUserNS {
		return true
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return true
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0
}

// probe mounts a root of two layers kept below dir and reads a file in it.
func probe(dir string) (Form, error) {
	if UserXattr() {
		return Trees, nil // EROFS is not for user namespaces
	}
	tmp, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return Trees, err
	}
	defer os.RemoveAll(tmp)
	want := bytes.Repeat([]byte("nacre"), 300)
	m := Mount{Upper: filepath.Join(tmp, "upper"), Work: filepath.Join(tmp, "work")}
	root := filepath.Join(tmp, "root")
	for _, d := range []string{m.Upper, m.Work, root} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return Trees, err
		}
	}
	for _, name := range []string{"a", "b"} {
		at := filepath.Join(tmp, "layer-"+name)
		if err := os.Mkdir(at, 0o700); err != nil {
			return Trees, err
		}
		if _, err := layer.Write(context.Background(), at, oneFile(name, want)); err != nil {
			return Trees, err
		}
		m.Lower = append(m.Lower, Lower{Index: filepath.Join(at, indexName), Data: filepath.Join(at, dataName)})
	}
	err = apart(func() error {
		if err := m.Attach(root); err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(root, "a"))
		if err == nil && !bytes.Equal(got, want) {
			err = errors.New("content differs")
		}
		return err
	})
	if err != nil {
		return Trees, nil // whatever the reason, this form is not to be had here
	}
	return Index, nil
}

func oneFile(name string, data []byte) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		yield(layer.File{
			Entry: layer.Entry{Name: name, Mode: unix.S_IFREG | 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0)},
			Open:  func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		}, nil)
	}
}

// apart runs do on a thread in a mount namespace of its own, which goes with it.
func apart(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread never ends, and /proc/self shows its mounts for the
			// process'. While it is held here, the next goroutine gets another.
			defer runtime.UnlockOSThread()
			done <- apart(do)
			return
		}
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNS))
		if err == nil {
			err = os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// replaceFile writes a file that others may be reading.
func replaceFile(name, content string) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
