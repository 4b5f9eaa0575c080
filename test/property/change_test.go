package property

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// change does one thing to the world and says what.
func (w *world) change(seed uint64) (string, error) {
	r := rand.New(rand.NewPCG(seed, 2))
	if r.IntN(2) == 0 {
		return w.changeText(r)
	}
	return w.changeFile(r)
}

// changeText changes the Dockerfile or what it is built with.
func (w *world) changeText(r *rand.Rand) (string, error) {
	i := r.IntN(len(w.lines) + 1)
	at := min(i, max(len(w.lines)-1, 0))
	if len(w.lines) == 0 {
		return "nothing", nil
	}
	old := w.lines[at]
	from := strings.HasPrefix(old, "FROM ")
	switch r.IntN(9) {
	case 0, 1: // edit
		if from {
			_, as, _ := strings.Cut(old, " AS ")
			w.lines[at] = "FROM " + pick(r, baseNames) + " AS " + as
		} else {
			w.lines[at] = randomLine(r, w.lines[:at])
		}
		return fmt.Sprintf("%q becomes %q", old, w.lines[at]), nil
	case 2: // insert
		if i == 0 {
			i = 1
		}
		line := randomLine(r, w.lines[:i])
		w.lines = append(w.lines[:i:i], append([]string{line}, w.lines[i:]...)...)
		return fmt.Sprintf("%q is inserted at %d", line, i), nil
	case 3:
		if from {
			return "nothing", nil
		}
		w.lines = append(w.lines[:at:at], w.lines[at+1:]...)
		return fmt.Sprintf("%q is deleted", old), nil
	case 4:
		if at+1 == len(w.lines) || from || strings.HasPrefix(w.lines[at+1], "FROM ") {
			return "nothing", nil
		}
		w.lines[at], w.lines[at+1] = w.lines[at+1], w.lines[at]
		return fmt.Sprintf("%q and what follows change places", old), nil
	case 5:
		w.args[pick(r, []string{"A", "B", "BASE"})] = pick(r, []string{"base:1", "base:2", "base:cur"})
		return "arguments are " + w.shadows(), nil
	case 6:
		w.tags["base:cur"] = pick(r, []string{"base:1", "base:2", "base:on"})
		return "base:cur is " + w.tags["base:cur"], nil
	case 7:
		w.epoch = pick(r, []string{"1150000000", "1200000000", "1250000000"})
		return "SOURCE_DATE_EPOCH is " + w.epoch, nil
	}
	if len(w.ignore) > 0 && r.IntN(2) == 0 {
		w.ignore = nil
	} else {
		w.ignore = append(w.ignore[:len(w.ignore):len(w.ignore)], pick(r, ignorePatterns))
	}
	return fmt.Sprintf("ignored are %q", w.ignore), w.writeIgnore()
}

// changeFile changes one object of the context.
func (w *world) changeFile(r *rand.Rand) (string, error) {
	dirs := r.IntN(5) == 0
	names := w.objects(dirs)
	if len(names) == 0 {
		return "nothing", nil
	}
	name := pick(r, names)
	path := filepath.Join(w.dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	link := info.Mode()&os.ModeSymlink != 0
	switch kind := r.IntN(10); {
	case kind == 0: // another name
		to := pick(r, fileNames) + "2"
		if err := os.MkdirAll(filepath.Join(w.dir, filepath.Dir(to)), 0o755); err != nil {
			return "", err
		}
		return fmt.Sprintf("%q is renamed %q", name, to), ignoring(os.Rename(path, filepath.Join(w.dir, to)), unix.EINVAL, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.EISDIR)
	case kind == 1:
		return fmt.Sprintf("%q is removed", name), os.RemoveAll(path)
	case kind == 2:
		f := testFile{name: pick(r, fileNames), data: fmt.Sprint("new ", r.IntN(9)), kind: 'f', mode: pick(r, modes), mtime: someTime(r)}
		return fmt.Sprintf("%q is added", f.name), ignoring(f.make(w.dir), unix.EISDIR, unix.ENOTDIR, unix.ENOENT)
	case link:
		to := pick(r, []string{"a", "dir", "../a", "dir/sub", "/", "gone"})
		if err := os.Remove(path); err != nil {
			return "", err
		}
		return fmt.Sprintf("%q points to %q", name, to), os.Symlink(to, path)
	case kind == 3:
		at := time.Unix(someTime(r), 0)
		return fmt.Sprintf("%q is touched: %d", name, at.Unix()), os.Chtimes(path, at, at)
	case kind == 4:
		mode := pick(r, modes)
		if dirs {
			mode = pick(r, []os.FileMode{0o700, 0o755, 0o711 | os.ModeSetgid})
		}
		return fmt.Sprintf("%q has mode %v", name, mode), os.Chmod(path, mode)
	case kind == 5:
		return fmt.Sprintf("%q has an attribute", name), unix.Setxattr(path, "user.nacre", []byte{byte('a' + r.IntN(3))}, 0)
	case kind == 6 && !dirs: // a link takes the place of a file
		if err := os.Remove(path); err != nil {
			return "", err
		}
		return fmt.Sprintf("%q becomes a link", name), os.Symlink("a", path)
	case kind == 7 && !dirs:
		to := path + ".hard"
		return fmt.Sprintf("%q gets a hard link", name), ignoring(os.Link(path, to), unix.EEXIST)
	case dirs:
		return fmt.Sprintf("%q gets a file", name), os.WriteFile(filepath.Join(path, "extra"), []byte{byte('a' + r.IntN(3))}, 0o644)
	}
	return w.edit(r, name)
}

// edit changes the content of a file, which often keeps its size, and its time.
func (w *world) edit(r *rand.Rand, name string) (string, error) {
	path := filepath.Join(w.dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(name, ".tar") {
		data = smallTar(fmt.Sprint("tar ", r.IntN(100)))
	} else if len(data) > 0 {
		data[len(data)-1] ^= byte(1 + r.IntN(7))
	}
	if err := os.WriteFile(path, data, 0); err != nil {
		return "", err
	}
	if r.IntN(2) == 0 {
		return fmt.Sprintf("%q is edited", name), nil
	}
	return fmt.Sprintf("%q is edited and has its time again", name), os.Chtimes(path, info.ModTime(), info.ModTime())
}

func ignoring(err error, but ...error) error {
	for _, b := range but {
		if err != nil && strings.Contains(err.Error(), b.Error()) {
			return nil
		}
	}
	return err
}
