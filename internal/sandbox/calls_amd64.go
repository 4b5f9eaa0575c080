package sandbox

// haveCalls tells whether cloneCalls is there for this architecture.
const haveCalls = true

// elfMachine is what programs are for that need no emulator.
const elfMachine = 62 // EM_X86_64

// cloneCalls starts a process with clone(2) that shares this one's memory and makes the calls of a
// list, from list on. Its id, or the negative error number of clone.
//
// tid is what CLONE_CHILD_CLEARTID clears. All signals must be blocked.
//
//go:noescape
func cloneCalls(flags uintptr, tid *uint32, list *rawCall) (pid uintptr)

// machine is for cloneCalls and for programs made of lists: it cannot be called.
func machine()

// machineAddress is where machine begins.
func machineAddress() *byte
