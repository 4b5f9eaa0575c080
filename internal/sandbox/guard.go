package sandbox

import "os"

func startGuard(p *os.Process, dirs []string) func() { return func() {} }
func runGuard()                                      { os.Exit(0) }
