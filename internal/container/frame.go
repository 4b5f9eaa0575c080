package container

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"nacre/internal/rootfs"
)

// What is said over a container's socket is frames: a byte that says of what kind, four bytes of length, big
// endian, and the content. Both sides are the same program, or a newer and an older one: unknown
// kinds are passed over, and requests and replies are JSON.
const (
	frameRequest = 'q' // request
	frameReply   = 'r' // reply
	frameInput   = 'i' // bytes of standard input
	frameEnd     = 'e' // standard input ends
	frameOutput  = 'o' // bytes of standard output
	frameError   = 'x' // bytes of standard error
	frameSize    = 'z' // sandbox.Size of the terminal, JSON
)

// maxFrame bounds a frame's content.
const maxFrame = 1 << 20

// request is what is wanted of a monitor.
type request struct {
	// Op is one of the op constants.
	Op      string        `json:"op"`
	Signal  int           `json:"signal,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // of stop; below zero: for ever
	// Of attach and start: the streams to be connected to.
	Stdin  bool         `json:"stdin,omitempty"`
	Stdout bool         `json:"stdout,omitempty"`
	Stderr bool         `json:"stderr,omitempty"`
	Width  int          `json:"width,omitempty"`
	Height int          `json:"height,omitempty"`
	Whole  bool         `json:"whole,omitempty"` // of attach: output waits for a slow reader, however slow
	Next   bool         `json:"next,omitempty"`  // of wait: also an end after which it is started again
	Reset  bool         `json:"reset,omitempty"`
	Exec   *ExecOptions `json:"exec,omitempty"`
	Update *Update      `json:"update,omitempty"`
	// Of owner: what a link gets.
	Owner *rootfs.Recorded `json:"owner,omitempty"`
}

// Operations.
const (
	opStart   = "start"   // by who started the monitor, first of all: a reply says that the program was executed; then as attach
	opAttach  = "attach"  // output until it ends; a reply at the beginning and one at the end
	opWait    = "wait"    // a reply at the end
	opSignal  = "signal"  // a reply at once
	opStop    = "stop"    // a reply when it has ended
	opPause   = "pause"   // a reply when done
	opUnpause = "unpause" // a reply when done
	opExec    = "exec"    // a reply when the program was executed; then as attach, to its own process
	opDetach  = "detach"  // of exec, on its way: who asked goes, the process stays
	opUpdate  = "update"  // a reply when done
	opOwner   = "owner"   // a reply when it is recorded
	opRoot    = "root"    // a reply with the descriptor of the container's root
)

// reply answers a request.
type reply struct {
	Error    string   `json:"error,omitempty"`
	Code     int      `json:"code"`              // exit code, also of an Error of start
	Exited   bool     `json:"exited,omitempty"`  // the container has ended, with Code
	Started  bool     `json:"started,omitempty"` // of start: the program was executed
	Pid      int      `json:"pid,omitempty"`
	OOM      bool     `json:"oom,omitempty"`
	TTY      bool     `json:"tty,omitempty"`
	Stuck    bool     `json:"stuck,omitempty"` // of stop: it was killed and has not ended, Error says why
	Warnings []string `json:"warnings,omitempty"`
}

func writeFrame(w io.Writer, kind byte, data []byte) error {
	head := make([]byte, 5, 5+len(data))
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(data)))
	_, err := w.Write(append(head, data...))
	return err
}

func writeMessage(w io.Writer, kind byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFrame(w, kind, data)
}

var errFrame = errors.New("the container's socket does not speak the protocol of this program")

// readFrame reads one frame. Its content is valid until buf is used again.
func readFrame(r io.Reader, buf []byte) (kind byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", errFrame, n)
	}
	if int(n) > cap(buf) {
		buf = make([]byte, n)
	}
	data = buf[:n]
	if _, err := io.ReadFull(r, data); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return head[0], data, nil
}
