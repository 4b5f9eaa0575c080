package layer

import (
	"runtime/debug"
	"sync"
)

const (
	// thriftyFrom is the entries from which on a tree counts as large.
	thriftyFrom = 100_000
	// thriftyPercent of what is alive is then what garbage may take.
	thriftyPercent = 20
)

// thrift makes the collector run more often as long as large trees are in memory.
// They live until they are written, and by default garbage may take as much again.
// The setting is the process': the first large tree makes it, the last undoes it.
var thrift struct {
	sync.Mutex
	trees  int
	before int // percent
}

func beThrifty() {
	thrift.Lock()
	defer thrift.Unlock()
	if thrift.trees++; thrift.trees > 1 {
		return
	}
	thrift.before = debug.SetGCPercent(thriftyPercent)
	if thrift.before >= 0 && thrift.before < thriftyPercent {
		debug.SetGCPercent(thrift.before)
	}
}

func endThrift() {
	thrift.Lock()
	defer thrift.Unlock()
	if thrift.trees--; thrift.trees == 0 {
		debug.SetGCPercent(thrift.before)
	}
}
