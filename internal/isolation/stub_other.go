//go:build !amd64 && !arm64

package isolation

// On other machines no namespace is entered: there is no code.
func stubProgram() []byte { return nil }

func stubMachine() uint16 { return 0 }
