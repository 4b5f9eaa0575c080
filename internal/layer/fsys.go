package layer

import "io/fs"

// FS returns the layer as an fs.FS, also fs.ReadDirFS, fs.StatFS and
// fs.ReadLinkFS. It keeps to the rules of io/fs for names, so that names which
// are not UTF-8 are out of reach, and follows no symlinks: opening one fails.
func (l *Layer) FS() fs.FS { return layerFS{l} }

type layerFS struct{ l *Layer }

func (f layerFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return f.l.Open(name)
}

func (f layerFS) Lstat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrInvalid}
	}
	return f.l.Lstat(name)
}

// Stat is Lstat: nothing is followed.
func (f layerFS) Stat(name string) (fs.FileInfo, error) { return f.Lstat(name) }

func (f layerFS) ReadLink(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return f.l.ReadLink(name)
}

func (f layerFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	return f.l.ReadDir(name)
}
