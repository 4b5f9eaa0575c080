package sandbox

import "os"

type watch struct{}

func startGuard(p *os.Process, dirs []string) watch { return watch{} }
func (watch) stop()                                 {}
func runGuard()                                     {}
