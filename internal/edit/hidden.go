package edit

import (
	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// maxHidden is how many symlinks are listed: nobody reads more.
const maxHidden = 10

// Hidden lists symlinks of a root that folders of the layer are in place of: all that is below where they lead is out of reach by that
// name then.
func (l *Layer) Hidden(root *rootfs.FS) (list []*layer.Stat, err error) {
	in, err := layer.Open(l.dir)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	for st, err := range in.All() {
		if err != nil {
			return nil, err
		}
		if st.Whiteout || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Name == "." {
			continue
		}
		have, err := root.Entry(st.Name)
		if err != nil {
			return nil, err
		}
		if have != nil && have.Mode&unix.S_IFMT == unix.S_IFLNK {
			if list = append(list, have); len(list) == maxHidden {
				break
			}
		}
	}
	return list, nil
}
