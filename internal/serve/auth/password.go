package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
)

// passwords checks passwords. A right one is remembered for a while, as bcrypt takes far longer than
// the requests that it protects: not itself, but its HMAC under a key of this process, together with the
// hash it was checked against and the address it came from.
type passwords struct {
	users func() users
	slow  *slow // by user
	addrs *slow // by address
	now   func() time.Time
	key   []byte

	flight singleflight.Group // the same question at the same time is one
	turns  *semaphore.Weighted

	mu    sync.Mutex
	known map[[32]byte]time.Time // until when

	dummyMu sync.Mutex
	dummies map[int][]byte
}

const (
	knownFor = 5 * time.Minute
	maxKnown = 10_000
)

func newPasswords(u func() users, byUser, byAddr *slow, now func() time.Time) *passwords {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return &passwords{
		users: u, slow: byUser, addrs: byAddr, now: now, key: key,
		turns: semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))),
		known: map[[32]byte]time.Time{}, dummies: map[int][]byte{},
	}
}

// check tells whether name has this password. An unknown name takes as long. wait is
// positive where nothing was checked, since there were too many failures.
func (p *passwords) check(ctx context.Context, name, password, addr string) (ok bool, wait time.Duration, err error) {
	u := p.users()
	hash, exists := u.hashes[name]
	if !exists {
		if hash, err = p.dummy(u.cost); err != nil {
			return false, 0, err
		}
	}
	id := p.sum(name, password, addr, hash)
	if exists && p.remembers(id) {
		return true, 0, nil
	}
	type answer struct {
		ok   bool
		wait time.Duration
	}
	// What is shared must not end with the request that came first.
	shared := context.WithoutCancel(ctx)
	got, err, _ := p.flight.Do(string(id[:]), func() (any, error) {
		if wait := p.begin(name, addr); wait > 0 {
			return answer{wait: wait}, nil
		}
		if err := p.turns.Acquire(shared, 1); err != nil {
			return answer{}, err
		}
		same := bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
		if !same {
			err = p.pad(hash, u.cost)
		}
		p.turns.Release(1)
		if !same || !exists {
			return answer{}, err
		}
		p.slow.forget(name)
		p.addrs.undo(addr)
		p.remember(id)
		return answer{ok: true}, nil
	})
	if err != nil {
		return false, 0, err
	}
	a := got.(answer)
	return a.ok, a.wait, nil
}

// pad spends what a wrong password for hash took less than one of the highest cost: 2^c, and then
// all of 2^c to 2^(cost-1), is 2^cost. So nobody learns who is known.
func (p *passwords) pad(hash []byte, cost int) error {
	c, err := bcrypt.Cost(hash)
	for ; err == nil && c < cost; c++ {
		var d []byte
		if d, err = p.dummy(c); err == nil {
			bcrypt.CompareHashAndPassword(d, nil) // is wrong
		}
	}
	return err
}

// begin asks both who is named and where it comes from.
func (p *passwords) begin(name, addr string) time.Duration {
	if wait := p.addrs.begin(addr); wait > 0 {
		return wait
	}
	wait := p.slow.begin(name)
	if wait > 0 {
		p.addrs.undo(addr)
	}
	return wait
}

func (p *passwords) sum(parts ...any) (id [32]byte) {
	h := hmac.New(sha256.New, p.key)
	for _, part := range parts {
		var b []byte
		switch v := part.(type) {
		case string:
			b = []byte(v)
		case []byte:
			b = v
		}
		s := sha256.Sum256(b) // of one length: no two lists run together
		h.Write(s[:])
	}
	h.Sum(id[:0])
	return id
}

func (p *passwords) remembers(id [32]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.known[id]
	left := until.Sub(p.now())
	return ok && left > 0 && left <= knownFor
}

func (p *passwords) remember(id [32]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if len(p.known) >= maxKnown {
		for k, until := range p.known {
			if !until.After(now) || len(p.known) >= maxKnown {
				delete(p.known, k)
			}
		}
	}
	p.known[id] = now.Add(knownFor)
}

// dummy is a hash of this cost that no password has.
func (p *passwords) dummy(cost int) ([]byte, error) {
	p.dummyMu.Lock()
	defer p.dummyMu.Unlock()
	if h := p.dummies[cost]; h != nil {
		return h, nil
	}
	h, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)
	p.dummies[cost] = h
	return h, err
}
