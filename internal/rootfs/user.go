package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
)

// User is who a process of the root runs as.
type User struct {
	UID, GID int
	Groups   []int  // supplementary
	Home     string // "/" where etc/passwd has none
	Name     string // empty for a number that etc/passwd does not know
	Shell    string
}

// maxAccounts bounds what is read of etc/passwd and etc/group, which belong to
// whoever made the image. An organisation's whole directory fits.
const maxAccounts = 64 << 20

// LookupUser resolves "user[:group]", each a name or a number, by etc/passwd and
// etc/group of the root f, as docker does: a name must be known, a number need not be; the
// supplementary groups are those that list the user, and none where a group is
// given. An empty spec is root.
func LookupUser(f fs.FS, spec string) (User, error) {
	passwd, err := openAccounts(f, "etc/passwd")
	if err != nil {
		return User{}, err
	}
	defer passwd.Close()
	group, err := openAccounts(f, "etc/group")
	if err != nil {
		return User{}, err
	}
	defer group.Close()

	found, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, passwd.reader(), group.reader())
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}
	u := User{UID: found.Uid, GID: found.Gid, Groups: found.Sgids, Home: found.Home}
	if u.Home == "" {
		u.Home = "/"
	}
	return u, u.name(f, spec)
}

// LookupOwner is LookupUser as --chown means it: a number alone is user and group, whatever group etc/passwd has for it.
func LookupOwner(f fs.FS, spec string) (uid, gid int, err error) {
	u, err := LookupUser(f, spec)
	if err != nil {
		return 0, 0, err
	}
	if _, err := strconv.Atoi(spec); err == nil {
		u.GID = u.UID
	}
	return u.UID, u.GID, nil
}

// LookupProcess is LookupUser for a container that has run: whatever it has made of its accounts, what needs none of them
// goes on without. That is no spec, root, and numbers.
func LookupProcess(f fs.FS, spec string) (User, error) {
	u, err := LookupUser(f, spec)
	if err == nil {
		return u, nil
	}
	if login, group, ok := strings.Cut(spec, ":"); login == "root" {
		spec = "0"
		if ok {
			spec += ":" + group
		}
	}
	// What is left to do without the files is what they would have changed nothing in but groups and home.
	found, nerr := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, nil, nil)
	if nerr != nil {
		return User{}, err
	}
	return User{UID: found.Uid, GID: found.Gid, Home: "/"}, nil
}

// name fills in what GetExecUser does not tell.
func (u *User) name(f fs.FS, spec string) error {
	passwd, err := openAccounts(f, "etc/passwd")
	if err != nil {
		return err
	}
	defer passwd.Close()
	login, _, _ := strings.Cut(spec, ":")
	lines, err := user.ParsePasswdFilter(passwd.reader(), func(l user.User) bool { return l.Uid == u.UID })
	if err != nil && passwd.file != nil {
		return fmt.Errorf("etc/passwd: %w", err)
	}
	for _, l := range lines {
		// Several names can share a number; the one asked for has precedence.
		if u.Name == "" || l.Name == login && u.Name != login {
			u.Name, u.Shell = l.Name, l.Shell
		}
	}
	return nil
}

// LookupGroups resolves names and numbers of groups by etc/group of the root f. A name must be known.
func LookupGroups(f fs.FS, groups []string) ([]uint32, error) {
	group, err := openAccounts(f, "etc/group")
	if err != nil {
		return nil, err
	}
	defer group.Close()
	gids, err := user.GetAdditionalGroups(groups, group.reader())
	if err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	out := make([]uint32, len(gids))
	for i, g := range gids {
		out[i] = uint32(g)
	}
	return out, nil
}

// accounts is one of the two files, or nothing where the root has none.
type accounts struct{ file fs.File }

func openAccounts(f fs.FS, name string) (accounts, error) {
	file, err := f.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return accounts{}, nil
	}
	return accounts{file}, err
}

func (a accounts) reader() io.Reader {
	if a.file == nil {
		return nil
	}
	return io.LimitReader(a.file, maxAccounts)
}

func (a accounts) Close() {
	if a.file != nil {
		a.file.Close()
	}
}
