package isolation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Choose finds the way that want stands for here, Auto being the best there is. It reads a few small files and
// starts nothing; only after a namespace was refused it asks the kernel once more, for the reason.
// Errors: *RefusedError, where what was asked for is not to be had.
func Choose(want Kind) (Choice, error) {
	m := startedAs()
	c := Choice{UID: os.Getuid(), GID: os.Getgid()}
	switch Kind(m.kind) {
	case Userns, Single:
		return inside(m)
	case markLost:
		return c, lost(m)
	}
	if want == None {
		c.Kind, c.Why = None, "asked for"
		return c, nil
	}
	if os.Geteuid() == 0 {
		return chooseAsRoot(c, want)
	}
	for _, kind := range []Kind{Root, Userns, Single, Chroot} {
		if want != Auto && want != kind {
			continue
		}
		var err *RefusedError
		if m.kind == markRefused && kind != Root && kind != Chroot {
			err = refusedByKernel(kind)
		} else {
			err = c.try(kind, want)
		}
		if err == nil {
			return c, nil
		}
		if want != Auto {
			return c, err
		}
		c.Refused = append(c.Refused, err.Refusal)
	}
	c.Kind, c.Why = None, noneWhy
	return c, nil
}

const noneWhy = "programs cannot be run, neither by RUN nor by run; what needs none works"

// inside is the choice of a process that has entered its namespace.
func inside(m marker) (Choice, error) {
	c := Choice{Kind: Kind(m.kind), UID: m.uid, GID: m.gid, Inside: true}
	for _, f := range []struct {
		name string
		to   *[]Range
	}{{"/proc/self/uid_map", &c.UIDs}, {"/proc/self/gid_map", &c.GIDs}} {
		list, err := readMap(f.name)
		if err != nil {
			return c, err
		}
		if len(list) == 0 || list[0].Inside != 0 {
			return c, lost(m)
		}
		for _, l := range list[1:] {
			*f.to = append(*f.to, Range{l.Outside, l.Count})
		}
	}
	c.Why = c.describe()
	return c, nil
}

func lost(m marker) error {
	return &RefusedError{Refusal{Kind: Userns, Why: "the namespace got no map of ids", Hint: "see what newuidmap and newgidmap said above; --isolation=single goes on with one id"}}
}

func (c *Choice) describe() string {
	if c.Kind == Single {
		return "a user namespace with one id, the user's; other owners are recorded"
	}
	count := uint64(1)
	for _, r := range c.UIDs {
		count += uint64(r.Count)
	}
	return fmt.Sprintf("a user namespace with %d ids, the user's and subordinate ones", count)
}

// try makes kind the choice if nothing speaks against it. What was asked for by name may be less good.
func (c *Choice) try(kind, want Kind) *RefusedError {
	if kind == Root || kind == Chroot {
		return &RefusedError{Refusal{Kind: kind, Why: "the user is not root"}}
	}
	refuse := func(why, hint string) *RefusedError {
		return &RefusedError{Refusal{kind, why, hint}}
	}
	if why, hint := forbidden(); why != "" {
		return refuse(why, hint)
	}
	if stubProgram() == nil {
		return refuse("not on this kind of machine", "")
	}
	next := Choice{Kind: kind, UID: c.UID, GID: c.GID, Refused: c.Refused}
	if kind == Userns {
		if why, hint := next.findIDs(); why != "" {
			return refuse(why, hint)
		}
		if why, hint := next.tooFew(); why != "" && want != Userns {
			return refuse(why, hint)
		}
	}
	next.Why = next.describe()
	*c = next
	return nil
}

// forbidden asks the switches that administrators have against user namespaces.
func forbidden() (why, hint string) {
	if old := tooOld(); old != "" {
		return old, ""
	}
	for _, s := range []struct{ file, off, hint string }{
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"},
	} {
		text, err := os.ReadFile(s.file)
		if err == nil && strings.TrimSpace(string(text)) == s.off {
			return "user namespaces are switched off: " + s.file + " is " + s.off, s.hint
		}
	}
	if restricted() {
		if profile, err := os.ReadFile("/proc/self/attr/current"); err == nil && strings.HasPrefix(string(profile), "unconfined") {
			return "AppArmor gives programs without a profile no rights in a user namespace", apparmorHint
		}
	}
	return "", ""
}

// addIDsHint says how an administrator gives a user subordinate ids.
func addIDsHint(uid int) string {
	return "an administrator gives the user some: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + userName(uid)
}

// imageIDs is how many ids images use: up to nobody, 65534.
const imageIDs = 65535

// tooFew tells whether owners that images have would be missing. With one id all but that are recorded; with some, programs that
// give files to others fail.
func (c *Choice) tooFew() (why, hint string) {
	for _, f := range []struct {
		file string
		list []Range
	}{{subuidFile, c.UIDs}, {subgidFile, c.GIDs}} {
		count := uint64(1)
		for _, r := range f.list {
			count += uint64(r.Count)
		}
		if count < imageIDs {
			return fmt.Sprintf("%s gives %s only %d subordinate ids, images use %d", f.file, userName(c.UID), count-1, imageIDs), addIDsHint(c.UID)
		}
	}
	return "", ""
}

// userName is the name of a user for messages, or the number.
func userName(uid int) string {
	number := strconv.Itoa(uid)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}

// findIDs finds the subordinate ids and the programs that can map them.
func (c *Choice) findIDs() (why, hint string) {
	for _, f := range []struct {
		program, file, own string
		id                 int
		to                 *[]Range
	}{
		{"newuidmap", subuidFile, "/proc/self/uid_map", c.UID, &c.UIDs},
		{"newgidmap", subgidFile, "/proc/self/gid_map", c.UID, &c.GIDs},
	} {
		list, err := subIDs(f.file, f.id)
		if err != nil {
			return err.Error(), ""
		}
		if len(list) == 0 {
			return fmt.Sprintf("%s has no subordinate ids for %s", f.file, userName(c.UID)), addIDsHint(c.UID)
		}
		m, err := readMap(f.own)
		if err != nil {
			return err.Error(), ""
		}
		for _, r := range list {
			if covers(m, r) {
				*f.to = append(*f.to, r)
			}
		}
		if len(*f.to) == 0 {
			return fmt.Sprintf("the subordinate ids of %s, %s, do not exist in this container", f.file, list[0]), ""
		}
		if why, hint := mapperWorks(f.program); why != "" {
			return why, hint
		}
	}
	return "", ""
}

// mapperWorks tells what keeps newuidmap or newgidmap from having the right to map.
func mapperWorks(name string) (why, hint string) {
	path, err := findMapper(name)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return name + " not found", "install uidmap (Debian, Ubuntu) or shadow-utils"
	}
	const stNosuid = 2 // ST_NOSUID, statfs(2)
	const reinstall = "install it again as its package has it"
	if errors.Is(err, fs.ErrPermission) {
		return name + " cannot be executed by the user", reinstall
	}
	if err != nil {
		return err.Error(), ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return err.Error(), ""
	}
	if _, err := unix.Getxattr(path, "security.capability", nil); err != nil && info.Mode()&fs.ModeSetuid == 0 {
		return path + " is neither setuid nor has it capabilities", reinstall
	}
	var where unix.Statfs_t
	if err := unix.Statfs(path, &where); err == nil && where.Flags&stNosuid != 0 {
		return path + " cannot get its rights: it is on a file system mounted nosuid", ""
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && n == 1 {
		return name + " cannot get its rights: no_new_privs is set", ""
	}
	return "", ""
}

// refusedByKernel says why no user namespace could be made.
func refusedByKernel(kind Kind) *RefusedError {
	err := tryNamespace()
	r := Refusal{Kind: kind, Why: "the kernel refuses a user namespace"}
	if err != nil {
		r.Why += ": " + err.Error()
	}
	switch {
	case errors.Is(err, unix.ENOSPC):
		r.Hint = "there are as many as user.max_user_namespaces allows"
	case restricted():
		r.Hint = apparmorHint
	case errors.Is(err, unix.EPERM):
		r.Hint = "in a container, its seccomp profile or security module may forbid it"
	}
	return &RefusedError{r}
}

const apparmorHint = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile for this program that has userns"

// restricted tells whether AppArmor lets ordinary programs make user namespaces without rights in them, as on Ubuntu since 23.10.
func restricted() bool {
	text, err := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

// tryNamespace starts a process in a new user namespace, which ends at once.
func tryNamespace() error {
	path, err := exec.LookPath("true")
	if err != nil {
		return nil
	}
	p, err := os.StartProcess(path, []string{"true"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}})
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return errno
		}
		return err
	}
	p.Wait()
	return nil
}

// Tried asks the kernel for the namespace of a choice, for a moment: where it refuses, the choice becomes what is left.
func (c Choice) Tried(want Kind) (Choice, error) {
	if c.Inside || c.Kind != Userns && c.Kind != Single || tryNamespace() == nil {
		return c, nil
	}
	r := refusedByKernel(c.Kind)
	if want != Auto {
		return c, r
	}
	c.Refused = append(c.Refused, r.Refusal)
	if c.Kind == Userns {
		c.Refused = append(c.Refused, refusedByKernel(Single).Refusal)
	}
	c.Refused = append(c.Refused, Refusal{Kind: Chroot, Why: "the user is not root"})
	c.UIDs, c.GIDs, c.Kind, c.Why = nil, nil, None, noneWhy
	return c, nil
}
