package hosted

import (
	"context"
	"errors"
	"fmt"
	"os"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// upload is what both kinds share.
type upload struct {
	r     *Registry
	ctx   context.Context // of Create: an upload ends with it
	repo  string
	d     registry.Descriptor
	check *registry.Checker
	ended bool
}

// finish is the beginning of every Commit.
func (u *upload) finish() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	u.ended = true
	if err := errors.Join(u.ctx.Err(), u.check.Check()); err != nil {
		return err
	}
	u.d = registry.Descriptor{MediaType: u.d.MediaType, Digest: u.d.Digest, Size: u.check.Size()}
	return nil
}

// write checks the next bytes.
func (u *upload) write(p []byte) error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	_, err := u.check.Write(p)
	if max := u.r.o.MaxBlob; err == nil && max > 0 && u.check.Size() > max {
		err = fmt.Errorf("%s: %w: more than the %d bytes allowed", u.d.Digest, registry.ErrDenied, max)
	}
	return err
}

// documentUpload is of a manifest or index.
type documentUpload struct {
	upload
	data []byte
}

func (u *documentUpload) Write(p []byte) (int, error) {
	if len(u.data)+len(p) > image.MaxSize {
		return 0, fmt.Errorf("%s: %w: more than %d bytes", u.d.Digest, registry.ErrInvalid, image.MaxSize)
	}
	if err := u.write(p); err != nil {
		return 0, err
	}
	u.data = append(u.data, p...)
	return len(p), nil
}

func (u *documentUpload) Commit() error {
	if err := u.finish(); err != nil {
		return err
	}
	in, err := u.r.names.repo(u.repo)
	if err != nil {
		return err
	}
	return u.r.s.PutPart(u.ctx, in.Name, u.d, u.data, u.r.until(), u.r.quota(u.repo))
}

func (u *documentUpload) Cancel() error {
	u.ended, u.data = true, nil
	return nil
}

// fileUpload is of everything else.
type fileUpload struct {
	upload
	f      *os.File
	remove func()
}

func (u *fileUpload) Write(p []byte) (int, error) {
	if err := u.write(p); err != nil {
		return 0, err
	}
	return u.f.Write(p)
}

func (u *fileUpload) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	defer u.remove()
	err := u.finish()
	if err == nil {
		err = u.f.Sync()
	}
	if err := errors.Join(err, u.f.Close()); err != nil {
		return err
	}
	return u.r.Adopt(u.ctx, u.repo, u.d, u.f.Name())
}

func (u *fileUpload) Cancel() error {
	if u.ended {
		return nil
	}
	u.ended = true
	err := u.f.Close()
	u.remove()
	return err
}
