package e2e

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// deafFS mounts a file system at dir that answers no more than it takes to be mounted (fuse(4)): who looks for a file in it
// waits in the kernel and cannot be killed, until release is called.
func deafFS(t *testing.T, dir string) (release func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal("open /dev/fuse:", err)
	}
	if err := unix.Mount("nacre-test", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Fatal("mount:", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		answerFuse(fd)
	}()
	released := false
	release = func() {
		if !released {
			released = true
			unix.Unmount(dir, unix.MNT_FORCE) // ends the connection, whoever else has it mounted
			<-ended
			unix.Close(fd)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	}
	t.Cleanup(release)
	return release
}

// answerFuse answers what is asked of the root of a file system (linux/fuse.h), and no more.
func answerFuse(fd int) {
	const lookup, forget, getattr, interrupt, initialize, statfs, access, getxattr = 1, 2, 3, 36, 26, 17, 34, 22
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		var answer []byte
		code := int32(0)
		switch binary.LittleEndian.Uint32(buf[4:]) {
		case lookup, forget, interrupt:
			continue
		case initialize:
			answer = make([]byte, 64)
			copy(answer, []byte{7, 0, 0, 0, 31, 0, 0, 0})       // version 7.31
			binary.LittleEndian.PutUint32(answer[20:], 128<<10) // max_write
		case getattr:
			answer = make([]byte, 16+88)
			binary.LittleEndian.PutUint64(answer[16:], 1)       // ino
			binary.LittleEndian.PutUint32(answer[76:], 0o40755) // mode
			binary.LittleEndian.PutUint32(answer[80:], 2)       // nlink
		case statfs:
			answer = make([]byte, 80)
		default:
			code = -int32(unix.ENOSYS)
		}
		head := binary.LittleEndian.AppendUint32(nil, uint32(16+len(answer)))
		head = binary.LittleEndian.AppendUint32(head, uint32(code))
		head = append(head, buf[8:16]...)
		unix.Write(fd, append(head, answer...))
	}
}

// TestContainerStuck kills a container that the kernel does not let go: that is said, and it ends when it can.
func TestContainerStuck(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	dir := t.TempDir()
	release := deafFS(t, dir)
	s.ok(t, "run", "-d", "--name", "stuck", "--network", "none", "--pids-limit", "20", "-v", dir+":/deaf", "busybox", "cat", "/deaf/file")
	pid := s.ok(t, "inspect", "-f", "{{.State.Pid}}", "stuck")
	until(t, "it to wait in the kernel", func() bool {
		state, _, _ := strings.Cut(strings.TrimPrefix(tool(t, "cut", "-d)", "-f2", "/proc/"+pid+"/stat"), " "), " ")
		return state == "D" || state == "S" && strings.Contains(tool(t, "cat", "/proc/"+pid+"/wchan"), "request_wait")
	})
	seen := s.traces(t)
	want := []string{"cannot kill container stuck: tried to kill container, but did not receive an exit event: process " + pid + ` \(cat\) waits in the kernel`}
	s.fails(t, 1, want, "stop", "-t", "0", "stuck")
	s.fails(t, 1, want, "rm", "-f", "stuck")
	if got := s.ok(t, "ps", "--format", "{{.Names}} {{.State}}"); got != "stuck running" {
		t.Errorf("ps: %s", got)
	}
	release()
	if got := s.status(t, "stuck", "Exited .*"); !strings.HasPrefix(got, "Exited (137) ") {
		t.Error(got)
	}
	s.removed(t, "stuck", seen)
}
