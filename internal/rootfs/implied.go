package rootfs

import (
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// addImplied returns m's layers with one on top that gives directories back the
// metadata that layers above theirs took from them.
//
// A tar may have usr/bin/tool without usr/bin. Its layer then has a usr/bin that
// nobody described, and overlay, which shows a merged directory as its topmost layer
// has it, would show that one.
func addImplied(m Mount, f *FS, form Form, scratch string) ([]Lower, error) {
	dirs, err := f.implied()
	if err != nil || len(dirs) == 0 {
		return m.Lower, err
	}
	names := slices.Sorted(maps.Keys(dirs))
	slices.SortFunc(names, compareNames)
	if form == Index {
		index := filepath.Join(scratch, "implied.erofs")
		err := layer.WriteIndex(index, func(yield func(layer.Entry, error) bool) {
			for _, name := range names {
				if !yield(dirs[name].Entry, nil) {
					return
				}
			}
		})
		return append(m.Lower, Lower{Index: index}), err
	}
	tree := filepath.Join(scratch, "implied")
	if err := os.Mkdir(tree, 0o700); err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == "." {
			continue
		}
		if err := os.Mkdir(filepath.Join(tree, name), 0o700); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Backward(names) { // inside out, for the times
		if err := dressDir(filepath.Join(tree, name), dirs[name]); err != nil {
			return nil, err
		}
	}
	return append(m.Lower, Lower{Dir: tree}), nil
}

func compareNames(a, b string) int {
	switch {
	case a == b:
		return 0
	case layer.Less(a, b):
		return -1
	}
	return 1
}

// implied finds the directories whose topmost layer does not describe them while one
// below does, differently, with all directories above them.
func (f *FS) implied() (map[string]*layer.Stat, error) {
	dirs := map[string]*layer.Stat{}
	for _, l := range f.layers {
		if !l.HasImplicit() {
			continue
		}
		for st, err := range impliedDirs(l) {
			if err != nil {
				return nil, err
			}
			if err := f.addIfHidden(dirs, st); err != nil {
				return nil, err
			}
		}
	}
	return dirs, nil
}

func impliedDirs(l *layer.Layer) iter.Seq2[*layer.Stat, error] {
	return func(yield func(*layer.Stat, error) bool) {
		for st, err := range l.All() {
			if (err != nil || st.Implicit) && !yield(st, err) {
				return
			}
		}
	}
}

func (f *FS) addIfHidden(dirs map[string]*layer.Stat, st *layer.Stat) error {
	if dirs[st.Name] != nil {
		return nil
	}
	n, err := f.lookup(st.Name)
	if err != nil || n == nil || n.parts == nil || n.stat.Implicit {
		return err
	}
	top, err := f.layers[n.parts[0]].Lstat(st.Name)
	if err != nil {
		return err
	}
	if !top.Sys().(*layer.Stat).Implicit {
		return nil
	}
	for name := st.Name; dirs[name] == nil; name = path.Dir(name) {
		n, err := f.lookup(name)
		if err != nil {
			return err
		}
		dirs[name] = n.stat
		if name == "." {
			break
		}
	}
	return nil
}

// dressDir gives the existing directory dir the metadata of st, as far as this user can.
func dressDir(dir string, st *layer.Stat) error {
	fd, err := openPath(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return wearer{owner: os.Geteuid() == 0, note: func(string) {}}.file(fd, &st.Entry)
}
