package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// folderInterval is how often a monitor looks whether its container's folder is still there. A stat of an open file
// costs nothing beside what inotify(7) costs at the end of a short container.
const folderInterval = 2 * time.Second

// watchFolder ends the container when somebody has deleted its folder, with all of the store perhaps: no command can
// find it any more, and nobody else would ever end it.
func (m *monitor) watchFolder() {
	t := time.NewTicker(folderInterval)
	defer t.Stop()
	for {
		select {
		case <-m.ended:
			return
		case <-t.C:
		}
		if m.lock.deleted() {
			m.noRestart()
			m.signal(syscall.SIGKILL)
			m.thaw()
		}
	}
}

// deleted tells whether the lock's file has no name any more. One that was moved with its folder has.
func (l *Lock) deleted() bool {
	info, err := l.file.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

// storeGone tells whether the whole store was deleted: opening it again would make a new one.
func (m *monitor) storeGone() bool {
	_, err := os.Stat(filepath.Dir(m.c.dir))
	return errors.Is(err, fs.ErrNotExist)
}
