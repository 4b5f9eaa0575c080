//go:build !amd64

package sandbox

const (
	haveCalls = false
	machine   = 0
)

func cloneCalls(uintptr, *uint32, *rawCall) uintptr { panic("no calls on this architecture") }
