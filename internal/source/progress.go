package source

import (
	"sync"
	"sync/atomic"
)

// Progress is how far the hashing of files got, of those that have to be read.
type Progress struct {
	Files, TotalFiles int64
	Bytes, TotalBytes int64
	Done              bool // this is the last of it
}

// What has to be hashed between two reports: a few of them a second, on a fast disk.
const (
	reportFiles = 1000
	reportBytes = 16 << 20
)

// meter counts for one call of hash. Its methods may be called on nil.
type meter struct {
	report       func(Progress)
	total        Progress
	files, bytes atomic.Int64
	nextFiles    atomic.Int64
	nextBytes    atomic.Int64
	mu           sync.Mutex // held while report runs
}

func newMeter(report func(Progress), batches []batch) *meter {
	if report == nil {
		return nil
	}
	m := &meter{report: report}
	for _, b := range batches {
		m.total.TotalFiles += int64(len(b.files))
		m.total.TotalBytes += b.bytes
	}
	return m
}

func (m *meter) add(files, bytes int64) {
	if m == nil {
		return
	}
	f, b := m.files.Add(files), m.bytes.Add(bytes)
	if f < m.nextFiles.Load() && b < m.nextBytes.Load() || !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	m.nextFiles.Store(f + reportFiles)
	m.nextBytes.Store(b + reportBytes)
	m.tell(false)
}

func (m *meter) done() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell(true)
}

func (m *meter) tell(done bool) {
	p := m.total
	p.Files, p.Bytes, p.Done = m.files.Load(), m.bytes.Load(), done
	m.report(p)
}
