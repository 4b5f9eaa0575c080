package rootfs

import (
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
func addImplied(m Mount, f *FS, form Form, scratch string, readonly bool) ([]Lower, error) {
	dirs, err := f.implied()
	if !readonly && len(dirs) == 1 {
		delete(dirs, ".") // the writable side has a root of its own
	}
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
	return append(m.Lower, Lower{Dir: tree}), makeDirs(tree, names, dirs)
}

// makeDirs makes tree with the directories names, parents first.
func makeDirs(tree string, names []string, dirs map[string]*layer.Stat) error {
	if err := os.Mkdir(tree, 0o700); err != nil {
		return err
	}
	root, err := openPath(tree, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for _, name := range names {
		if name == "." {
			continue
		}
		if err := mkdirBeneath(root, name); err != nil {
			return &os.PathError{Op: "mkdir", Path: name, Err: err}
		}
	}
	for _, name := range slices.Backward(names) { // inside out, for the times
		if err := dressBeneath(quietWearer(), root, dirs[name]); err != nil {
			return err
		}
	}
	return nil
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
// below does, with all directories above them.
func (f *FS) implied() (map[string]*layer.Stat, error) {
	dirs := map[string]*layer.Stat{}
	for i, l := range f.layers {
		if i == 0 || !l.HasImplicit() {
			continue // below the first layer is nothing to know better
		}
		if err := f.impliedIn(l, ".", dirs); err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

// impliedIn looks through the directories of a layer, of which most layers have few.
func (f *FS) impliedIn(l *layer.Layer, dir string, dirs map[string]*layer.Stat) error {
	info, err := l.Lstat(dir)
	if err != nil {
		return err
	}
	if st := info.Sys().(*layer.Stat); st.Implicit {
		if err := f.addIfHidden(dirs, st); err != nil {
			return err
		}
	}
	list, err := l.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.IsDir() {
			if err := f.impliedIn(l, path.Join(dir, e.Name()), dirs); err != nil {
				return err
			}
		}
	}
	return nil
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
	hides := top.Sys().(*layer.Stat)
	if !hides.Implicit || st.Name == "." && sameDir(&hides.Entry, &n.stat.Entry) {
		return nil // nobody looks at the time of the root
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
