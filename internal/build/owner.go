package build

import (
	"errors"
	"strings"

	"nacre/internal/copier"
	"nacre/internal/rootfs"

	"github.com/moby/sys/user"
)

// ownerOf resolves "user[:group]" in the root lower, as --chown means it.
func ownerOf(lower *rootfs.FS, spec string) (copier.Owner, error) {
	if lower == nil {
		lower = rootfs.NewFS()
	}
	uid, gid, err := rootfs.LookupOwner(lower, spec)
	return copier.Owner{UID: uid, GID: gid}, err
}

// workdirOwner is whom a directory made by WORKDIR belongs to under USER spec. A name that the
// root does not know is root: USER is only looked up for good when something runs, and
// an image without etc/passwd may well have both instructions.
func workdirOwner(lower *rootfs.FS, spec string) (copier.Owner, error) {
	name, group, _ := strings.Cut(spec, ":")
	o, err := ownerOf(lower, name)
	if err != nil && !isUnknown(err) {
		return copier.Owner{}, err
	}
	if group == "" {
		return o, nil
	}
	g, err := ownerOf(lower, "0:"+group)
	switch {
	case err == nil:
		o.GID = g.GID
	case !isUnknown(err):
		return copier.Owner{}, err
	}
	return o, nil
}

// isUnknown tells whether err is of a name that etc/passwd or etc/group does not have.
func isUnknown(err error) bool {
	return errors.Is(err, user.ErrNoPasswdEntries) || errors.Is(err, user.ErrNoGroupEntries)
}
