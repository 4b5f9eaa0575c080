package build

import (
	"context"
	"slices"
	"sync"

	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/network"
	"nacre/internal/sandbox"
)

// runHostname is what scripts have seen in RUN steps for years.
const runHostname = "buildkitsandbox"

// networks are the private ones of a build's RUN steps, made when the first of them is executed.
type networks struct {
	once sync.Once
	pool *network.Pool
}

// network is a step's own network, until release or the end of the step; nil is the host's, or none.
// Which one it was counts for no key: a step that comes out otherwise in another is not reproducible.
func (w *work) network(ctx context.Context, op *graph.Run) (n *network.Network, release func(), err error) {
	if op.Network != "" && op.Network != "default" {
		return nil, func() {}, nil
	}
	w.networks.once.Do(func() {
		ask := network.Ask{Hostname: runHostname, Guard: sandbox.Guard}
		w.networks.pool = network.NewPool(ask, w.noteNetwork)
		w.atEnd(w.networks.pool.Close)
	})
	pool := w.networks.pool
	if n, err = pool.Get(ctx, slices.Concat(op.Env, op.Proxy)); err != nil || n == nil {
		return nil, func() {}, err
	}
	release = sync.OnceFunc(func() {
		if op.Insecure { // it may have changed what it had
			n.Close()
		} else {
			pool.Put(n)
		}
	})
	w.temp = append(w.temp, release)
	return n, release, nil
}

// noteNetwork says something of networks in the log of the step that came upon it.
func (w *work) noteNetwork(text string) {
	w.Sink(event.Log{ID: w.eventStep(w.step).ID, Time: w.Clock(), Stream: 2, Data: []byte("nacre: " + text + "\n")})
}
