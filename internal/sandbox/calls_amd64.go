package sandbox

// haveCalls tells whether cloneCalls is there for this architecture.
const haveCalls = true

// machine is what programs are for that need no emulator.
const machine = 62 // EM_X86_64

// cloneCalls starts a process with clone(2) that shares this one's memory and makes the calls of a
// list, from list on. Its id, or the negative error number of clone.
//
// tid is what CLONE_CHILD_CLEARTID clears. All signals must be blocked.
//
//go:noescape
func cloneCalls(flags uintptr, tid *uint32, list *rawCall) (pid uintptr)
