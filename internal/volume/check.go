package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Problem is something that is wrong with a volume.
type Problem struct {
	Name     string
	Text     string
	Repaired bool
}

// Check looks at every volume's folder. With repair a record that cannot be read is made anew, without labels and options,
// and a missing users/ as well; files are never touched.
func (v *Volumes) Check(repair bool) ([]Problem, error) {
	list, err := v.List()
	if err != nil {
		return nil, err
	}
	var out []Problem
	for _, vol := range list {
		if text := v.wrong(vol); text != "" {
			p := Problem{Name: vol.Name, Text: text}
			if repair {
				p.Repaired = v.repair(vol) == nil
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// wrong says what is wrong with a volume, or nothing.
func (v *Volumes) wrong(vol Volume) string {
	if vol.Damaged != "" {
		return vol.Damaged
	}
	dir, err := v.openFolder(vol.Name)
	if errors.Is(err, ErrAbsent) {
		return "" // removed since it was listed
	}
	if err != nil {
		return err.Error()
	}
	defer dir.Close()
	for _, name := range []string{dataName, usersName} {
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			if !v.isAt(dir, vol.Name) {
				return "" // removed just now
			}
			return (&os.PathError{Op: "stat", Path: v.path(vol.Name, name), Err: err}).Error()
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return v.path(vol.Name, name) + " is not a folder"
		}
	}
	return ""
}

func (v *Volumes) repair(vol Volume) error {
	var st unix.Stat_t
	if err := unix.Lstat(v.path(vol.Name), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.Join(err, fmt.Errorf("%s is not a folder", v.path(vol.Name)))
	}
	if err := os.Mkdir(v.path(vol.Name, usersName), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := unix.Lstat(v.path(vol.Name, dataName), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.Join(err, fmt.Errorf("%s is not a folder", v.Mountpoint(vol.Name))) // whose files were lost is not for us to hide
	}
	if vol.Damaged == "" {
		return nil
	}
	fresh := Volume{Name: vol.Name, Driver: "local", Created: v.now().UTC()}
	record, err := json.Marshal(fresh)
	if err != nil {
		return err
	}
	dir, remove, err := v.store.TempDir("volume")
	if err != nil {
		return err
	}
	defer remove()
	if err := fresh.write(filepath.Join(dir, recordName), record); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, recordName), v.path(vol.Name, recordName)); err != nil {
		return err
	}
	return fresh.syncDir(v.path(vol.Name))
}
