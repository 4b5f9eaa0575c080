//go:build amd64 || arm64

package isolation

import (
	"runtime"
	"unsafe"
)

// stubCode is where the code of a script's program is (stub_GOARCH.s).
func stubCode() unsafe.Pointer

// stubProgram is that code. What follows it in memory comes along and does nothing.
func stubProgram() []byte { return unsafe.Slice((*byte)(stubCode()), codeSize) }

// stubMachine is the ELF number of this kind of machine (e_machine).
func stubMachine() uint16 {
	if runtime.GOARCH == "arm64" {
		return 183
	}
	return 62
}
