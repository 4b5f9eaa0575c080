package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func sockets() map[string]trick {
	return map[string]trick{
		"abstract socket": func() (string, error) {
			name, err := fact("SOCKET")
			if err != nil {
				return "", err
			}
			return "connected", connect("\x00" + name)
		},
		"monitor's socket": monitorSocket,
		"vsock":            vsock,
	}
}

// granted are tricks that every container may do: they are its own network's.
func granted() map[string]trick {
	return map[string]trick{
		"raw socket":    gated(func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP); return err }),
		"packet socket": gated(func() error { _, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); return err }),
	}
}

func connect(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

// monitorSocket connects to what rules a container: by its path, and by any name that the kernel tells.
func monitorSocket() (string, error) {
	path, err := fact("MONITOR")
	if err != nil {
		return "", err
	}
	candidates := []string{path, "/proc/1/root" + path, "/proc/self/fd/3/socket"}
	if f, err := os.Open("/proc/net/unix"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) == 8 && strings.HasPrefix(fields[7], "@") && strings.Contains(fields[7], "nacre-monitor") {
				candidates = append(candidates, "\x00"+fields[7][1:])
			}
		}
	}
	for _, name := range candidates {
		if len(name) > 107 {
			short, done, lerr := shorten(name)
			if lerr != nil {
				err = lerr
				continue
			}
			defer done()
			name = short
		}
		if err = connect(name); err == nil {
			return "connected to " + name, nil
		}
	}
	return "", err
}

// shorten finds a name for a socket whose path is too long for an address.
func shorten(name string) (string, func(), error) {
	at := strings.LastIndexByte(name, '/')
	fd, err := unix.Open(name[:at], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d%s", fd, name[at:]), func() { unix.Close(fd) }, nil
}

// vsock would reach what runs this machine, where it is a virtual one.
func vsock() (string, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return gate(err)
}
