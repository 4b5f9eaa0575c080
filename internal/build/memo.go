package build

import "sync"

// memo does each thing once and gives its result to everyone who asks for it. The
// zero value is ready.
type memo[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

type call[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// do returns what f returned when it was first called for key, waiting for that
// if need be. Whoever comes first runs f, with its own context.
func (m *memo[K, V]) do(key K, f func() (V, error)) (V, error) {
	m.mu.Lock()
	c, begun := m.calls[key]
	if !begun {
		if m.calls == nil {
			m.calls = map[K]*call[V]{}
		}
		c = &call[V]{done: make(chan struct{})}
		m.calls[key] = c
	}
	m.mu.Unlock()
	if begun {
		<-c.done
	} else {
		c.value, c.err = f()
		close(c.done)
	}
	return c.value, c.err
}

// get returns the value of a key that is done; the zero value otherwise.
func (m *memo[K, V]) get(key K) (v V) {
	m.mu.Lock()
	c := m.calls[key]
	m.mu.Unlock()
	if c == nil {
		return v
	}
	select {
	case <-c.done:
		return c.value
	default:
		return v
	}
}
