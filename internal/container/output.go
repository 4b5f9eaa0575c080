package container

import (
	"io"
	"net"
	"sync"
	"time"
)

// output is where all goes that a container writes: to its log, to whoever is attached, and, of a
// container that runs in the process of who started it, to the streams of that.
type output struct {
	log *logWriter

	mu      sync.Mutex
	viewers map[*viewer]bool
}

// stream is the writer of one of the container's streams. An error of also ends the stream: the
// container gets SIGPIPE, as it would have without us.
func (o *output) stream(name string, also io.Writer) io.Writer { return &outputStream{o, name, also} }

type outputStream struct {
	*output
	name string
	also io.Writer
}

func (s *outputStream) Write(p []byte) (int, error) {
	s.log.write(s.name, p)
	s.mu.Lock()
	for v := range s.viewers {
		if v.wants(s.name) && !v.send(s.name, p) {
			delete(s.viewers, v)
		}
	}
	s.mu.Unlock()
	if s.also != nil {
		return s.also.Write(p)
	}
	return len(p), nil
}

func (o *output) attach(v *viewer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.viewers == nil {
		o.viewers = map[*viewer]bool{}
	}
	o.viewers[v] = true
}

func (o *output) detach(v *viewer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.viewers, v)
}

// all are the viewers there are.
func (o *output) all() (list []*viewer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for v := range o.viewers {
		list = append(list, v)
	}
	return list
}

const (
	// viewerBuffer is how much output may be on its way to a viewer.
	viewerBuffer = 1 << 20
	// viewerPatience is how long the container waits for one that does not read: whoever looks at
	// a container must not be able to stop it for good.
	viewerPatience = 10 * time.Second
)

// viewer is somebody attached to a container by a connection. What is to be sent goes through a queue,
// which another goroutine empties.
type viewer struct {
	conn           net.Conn
	stdout, stderr bool
	whole          bool // it is waited for, however long

	mu    sync.Mutex
	more  sync.Cond // the queue is not empty, or closed
	room  sync.Cond // there is room in it, or nobody empties it any more
	queue []byte    // frames
	ended bool      // nothing is added any more
	gone  bool      // nobody reads
	done  chan struct{}
}

func newViewer(conn net.Conn, q request) *viewer {
	v := &viewer{conn: conn, stdout: q.Stdout, stderr: q.Stderr, whole: q.Whole, done: make(chan struct{})}
	v.more.L, v.room.L = &v.mu, &v.mu
	go v.run()
	return v
}

func (v *viewer) wants(stream string) bool {
	return v.stdout && stream == "stdout" || v.stderr && stream == "stderr"
}

// send queues output. It is false when there is nobody any more.
func (v *viewer) send(stream string, p []byte) bool {
	kind := byte(frameOutput)
	if stream == "stderr" {
		kind = frameError
	}
	for len(p) > 0 {
		n := min(len(p), 64<<10)
		if !v.add(kind, p[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

func (v *viewer) add(kind byte, data []byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.queue) > viewerBuffer && !v.whole {
		late := time.AfterFunc(viewerPatience, v.drop)
		defer late.Stop()
	}
	for len(v.queue) > viewerBuffer && !v.gone && !v.ended {
		v.room.Wait()
	}
	if v.gone || v.ended {
		return false
	}
	writeFrame((*appender)(&v.queue), kind, data)
	v.more.Signal()
	return true
}

// appender is a slice to write to.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// drop gives the viewer up.
func (v *viewer) drop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = true
	v.conn.Close()
	v.more.Broadcast()
	v.room.Broadcast()
}

// finish sends r after all output, and waits until it is sent or the viewer is lost.
func (v *viewer) finish(r *reply) {
	v.mu.Lock()
	if r != nil && !v.gone && !v.ended {
		writeMessage((*appender)(&v.queue), frameReply, r)
	}
	v.ended = true
	v.more.Broadcast()
	v.room.Broadcast()
	v.mu.Unlock()
	select {
	case <-v.done:
	case <-time.After(viewerPatience):
		v.drop()
	}
}

// run sends what is queued.
func (v *viewer) run() {
	defer close(v.done)
	for {
		v.mu.Lock()
		for len(v.queue) == 0 && !v.ended && !v.gone {
			v.more.Wait()
		}
		data := v.queue
		v.queue = nil
		stop := v.gone || v.ended && len(data) == 0
		v.room.Broadcast()
		v.mu.Unlock()
		if stop {
			return
		}
		if _, err := v.conn.Write(data); err != nil {
			v.drop()
			return
		}
	}
}
