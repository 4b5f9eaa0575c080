package isolation

import (
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// chooseAsRoot is for who is root already, of the machine or of some container.
func chooseAsRoot(c Choice, want Kind) (Choice, error) {
	switch want {
	case Auto:
	case Root, Chroot:
		if r := c.tryAsRoot(want); r != nil {
			return c, r
		}
		return c, nil
	default:
		return c, &RefusedError{Refusal{Kind: want, Why: "it is for users other than root", Hint: "run --userns=auto keeps a container's root apart from the machine's"}}
	}
	for _, kind := range []Kind{Root, Chroot} {
		r := c.tryAsRoot(kind)
		if r == nil {
			return c, nil
		}
		c.Refused = append(c.Refused, r.Refusal)
	}
	c.Kind, c.Why = None, noneWhy
	return c, nil
}

// tryAsRoot makes kind the choice if nothing speaks against it.
func (c *Choice) tryAsRoot(kind Kind) *RefusedError {
	if kind == Root {
		if why, hint := cannotMount(); why != "" {
			return &RefusedError{Refusal{kind, why, hint}}
		}
		c.Kind, c.Why = Root, "root, with mounts of its own"
		return nil
	}
	if lack := lacking(chrootNeeds); len(lack) > 0 {
		return &RefusedError{Refusal{kind, "root has no " + strings.Join(lack, ", "), "give the container docker's default capabilities"}}
	}
	c.Kind, c.Why = Chroot, "root without namespaces: RUN by chroot, one directory per stage; no containers"
	return nil
}

const mountHint = "docker run --privileged, or --cap-add SYS_ADMIN with --security-opt seccomp=unconfined and apparmor=unconfined, gives better isolation; builds work without"

// cannotMount tells what keeps root from namespaces and mounts. The kernel is asked only where a filter of system
// calls may have its say: else the capability tells.
func cannotMount() (why, hint string) {
	if len(lacking([]capability{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}})) > 0 {
		return "root has no CAP_SYS_ADMIN, as in a container with default rights: unshare and mount are refused", mountHint
	}
	if old := tooOld(); old != "" {
		return old, ""
	}
	const filtered = 2 // SECCOMP_MODE_FILTER
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil || mode != filtered {
		return "", ""
	}
	if step, err := tryMounts(); err != nil {
		return step + " is refused: " + err.Error(), mountHint
	}
	return "", ""
}

// tooOld says that this kernel lacks what every mount of a container takes. It is asked for nothing, on no descriptor.
func tooOld() string {
	if err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}); err == unix.ENOSYS {
		return "the kernel is older than Linux 5.12 (it has no mount_setattr)"
	}
	return ""
}

// tryMounts makes a mount namespace and changes a mount in it, on a thread that ends.
func tryMounts() (step string, err error) {
	type result struct {
		step string
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread never ends. While it is held here, the next goroutine gets another.
			defer runtime.UnlockOSThread()
			step, err := tryMounts()
			done <- result{step, err}
			return
		}
		r := result{"unshare", unix.Unshare(unix.CLONE_NEWNS)}
		if r.err == nil {
			r = result{"mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")}
		}
		done <- r
	}()
	r := <-done
	return r.step, r.err
}

type capability struct {
	number int
	name   string
}

// chrootNeeds are what unpacking images and running programs of theirs takes.
var chrootNeeds = []capability{
	{unix.CAP_SYS_CHROOT, "CAP_SYS_CHROOT"}, {unix.CAP_CHOWN, "CAP_CHOWN"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
	{unix.CAP_FOWNER, "CAP_FOWNER"}, {unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETGID, "CAP_SETGID"},
}

// lacking are those that this process does not have.
func lacking(list []capability) (names []string) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil
	}
	for _, c := range list {
		if data[c.number/32].Effective&(1<<(c.number%32)) == 0 {
			names = append(names, c.name)
		}
	}
	return names
}
