package bundle

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// consoleTo sends a terminal's master to a unix socket, as runc does (its docs/terminals.md); nil without one.
func consoleTo(socket string) func(*os.File) error {
	if socket == "" {
		return nil
	}
	return func(master *os.File) error {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
		if err != nil {
			return fmt.Errorf("console socket: %w", err)
		}
		defer conn.Close()
		if _, _, err := conn.WriteMsgUnix([]byte("/dev/ptmx"), unix.UnixRights(int(master.Fd())), nil); err != nil {
			return fmt.Errorf("console socket: %w", err)
		}
		return nil
	}
}
