package main

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The accounts of the recorded bases. The group file is made to have what cases ask for.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\n" +
		"daemon:x:1:1:daemon:/usr/sbin:/bin/false\n" +
		"bin:x:2:2:bin:/bin:/bin/false\n" +
		"sys:x:3:3:sys:/dev:/bin/false\n" +
		"www-data:x:33:33:www-data:/var/www:/bin/false\n" +
		"operator:x:37:37:Operator:/var:/bin/false\n" +
		"nobody:x:65534:65534:nobody:/home:/bin/false\n"
	group = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\nmail:x:8:\nwww-data:x:33:\noperator:x:37:\nnobody:x:65534:\n"

	// The accounts of the one called CentOS, as far as cases ask for them.
	centosPasswd = "root:x:0:0:root:/root:/bin/bash\n" +
		"bin:x:2:2:bin:/bin:/sbin/nologin\n" +
		"daemon:x:1:1:daemon:/sbin:/sbin/nologin\n" +
		"adm:x:3:4:adm:/var/adm:/sbin/nologin\n" +
		"lp:x:4:7:lp:/var/spool/lpd:/sbin/nologin\n" +
		"mail:x:8:12:mail:/var/spool/mail:/sbin/nologin\n" +
		"nobody:x:99:99:Nobody:/:/sbin/nologin\n"
	centosGroup = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\nlp:x:7:\nmail:x:12:\nnobody:x:99:\n"
)

const searchPath = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// bases imports stand-ins for the images that cases begin with, and returns
// what is in one of them.
func (b builder) bases(ctx context.Context) (tree, error) {
	for _, base := range []struct {
		names         []string
		passwd, group string
		changes       []string
	}{
		{[]string{"busybox", "mirror.gcr.io/busybox"}, passwd, group, []string{`CMD ["sh"]`}},
		{[]string{"alpine", "mirror.gcr.io/alpine"}, passwd, group, []string{`CMD ["/bin/sh"]`}},
		{[]string{"quay.io/libpod/centos:7"}, centosPasswd, centosGroup, []string{`CMD ["/bin/bash"]`, `LABEL org.label-schema.name="CentOS Base Image"`}},
	} {
		file := filepath.Join(b.scratch, "base.tar")
		if err := writeBase(ctx, file, base.passwd, base.group); err != nil {
			return nil, fmt.Errorf("base %s: %w", base.names[0], err)
		}
		args := []string{"import", "-c", searchPath}
		for _, c := range base.changes {
			args = append(args, "-c", c)
		}
		for _, name := range base.names {
			if text, err := b.run(ctx, append(args, file, name)...); err != nil {
				return nil, fmt.Errorf("import %s: %w\n%s", name, err, text)
			}
		}
	}
	_, files, err := b.image(ctx, "busybox")
	return files, err
}

// writeBase makes a root file system around a static busybox.
func writeBase(ctx context.Context, name, passwd, group string) error {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w (scripts/setup tools installs it)", err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	applets, err := exec.CommandContext(ctx, program, "--list").Output()
	if err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	w := baseWriter{tw: tar.NewWriter(out)}
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/bin", "usr/sbin", "var", "var/www"} {
		w.add(tar.TypeDir, dir, 0o755, "")
	}
	w.add(tar.TypeDir, "root", 0o700, "")
	w.add(tar.TypeDir, "tmp", 0o1777, "")
	w.add(tar.TypeReg, "bin/busybox", 0o755, string(data))
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			w.add(tar.TypeLink, "bin/"+applet, 0o755, "bin/busybox")
		}
	}
	w.add(tar.TypeReg, "bin/bash", 0o755, "#!/bin/sh\nexec /bin/sh \"$@\"\n")
	w.add(tar.TypeReg, "usr/bin/script", 0o755, "#!/bin/sh\n") // of util-linux: a case looks for it
	w.add(tar.TypeReg, "etc/passwd", 0o644, passwd)
	w.add(tar.TypeReg, "etc/group", 0o644, group)
	w.add(tar.TypeReg, "etc/nsswitch.conf", 0o644, "hosts: files dns\n")
	w.add(tar.TypeReg, "etc/os-release", 0o644, "NAME=base\n")
	if w.err != nil {
		return w.err
	}
	if err := w.tw.Close(); err != nil {
		return err
	}
	return out.Close()
}

// baseWriter keeps the first error.
type baseWriter struct {
	tw  *tar.Writer
	err error
}

// add writes an object: text is a file's content, or what a link leads to.
func (w *baseWriter) add(kind byte, name string, mode int64, text string) {
	if w.err != nil {
		return
	}
	h := &tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: modified}
	if kind == tar.TypeLink {
		h.Linkname = text
		w.err = w.tw.WriteHeader(h)
		return
	}
	h.Size = int64(len(text))
	if w.err = w.tw.WriteHeader(h); w.err == nil {
		_, w.err = w.tw.Write([]byte(text))
	}
}
