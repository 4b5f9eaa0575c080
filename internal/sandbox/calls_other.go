//go:build !amd64

package sandbox

const (
	haveCalls  = false
	elfMachine = 0
)

func cloneCalls(uintptr, *uint32, *rawCall) uintptr { panic("no calls on this architecture") }

func machineAddress() *byte { panic("no calls on this architecture") }
