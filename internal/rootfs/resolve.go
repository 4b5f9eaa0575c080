package rootfs

import (
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks one name may lead through. Linux stops at 40; we
// follow as many as filepath.EvalSymlinks and securejoin do.
const maxLinks = 255

// Resolve returns name with all symlinks followed inside the root. An absolute name
// or target begins at the root, and ".." does not leave it. What does not exist is
// taken as written, so that the result of a name whose last components are missing
// is the name they would have. Errors: ELOOP, ENOTDIR, as *fs.PathError.
func (f *FS) Resolve(name string) (string, error) { return f.resolve(name, true) }

// ResolveParent is Resolve but for the last component, which is not followed.
func (f *FS) ResolveParent(name string) (string, error) { return f.resolve(name, false) }

func (f *FS) resolve(name string, last bool) (string, error) {
	fail := func(err error) (string, error) {
		return "", &fs.PathError{Op: "resolve", Path: name, Err: err}
	}
	if strings.Contains(name, "\x00") {
		return fail(fs.ErrInvalid)
	}
	done, rest, links := ".", name, 0
	missing := 0 // components at the end of done that do not exist
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		final := strings.Trim(rest, "/") == ""
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			missing = max(0, missing-1)
			continue
		}
		next := path.Join(done, part)
		if missing > 0 {
			done, missing = next, missing+1
			continue
		}
		n, err := f.lookup(next)
		if err != nil {
			return fail(err)
		}
		switch {
		case n == nil:
			missing++
		case n.stat.Mode&unix.S_IFMT == unix.S_IFLNK && (last || !final):
			if links++; links > maxLinks {
				return fail(unix.ELOOP)
			}
			target := n.stat.Link
			if path.IsAbs(target) {
				done = "."
			}
			rest = target + "/" + rest
			continue
		case n.parts == nil && !final:
			return fail(unix.ENOTDIR)
		}
		done = next
	}
	return done, nil
}
