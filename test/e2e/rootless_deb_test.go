package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// thing is a package as packages are: programs with special modes, links, files of other users, and a script that makes
// users and gives them files.
const thing = `
set -e
mkdir -p p/DEBIAN p/usr/bin p/var/lib/thing p/etc/thing p/usr/share/thing ctx
printf '#!/bin/sh\necho hi\n' >p/usr/bin/thing; chmod 4755 p/usr/bin/thing
echo a >p/etc/thing/conf; ln -s ../../etc/thing/conf p/usr/share/thing/conf; ln p/etc/thing/conf p/usr/share/thing/hard
chown -R 33:33 p/var/lib/thing; chown -h 8:8 p/usr/share/thing/conf; chown 0:42 p/etc/thing/conf
cat >p/DEBIAN/control <<end
Package: thing
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.com>
Description: of no use
end
cat >p/DEBIAN/postinst <<'end'
#!/bin/sh
set -e
useradd --system --home-dir /var/lib/thing --shell /usr/sbin/nologin thing
install -d -o thing -g thing -m 2750 /var/lib/thing/data
install -o thing -g adm -m 640 /dev/null /var/lib/thing/data/f
chown -R thing:thing /var/lib/thing
dpkg-statoverride --update --add root thing 2755 /usr/bin/thing
test "$(stat -c %U:%G /var/lib/thing/data/f)" = thing:thing
end
chmod 755 p/DEBIAN/postinst
dpkg-deb --build p ctx/thing.deb >/dev/null
chmod -R a+rX ctx
`

const thingDockerfile = `FROM debian
COPY thing.deb /
RUN dpkg -i /thing.deb && rm -f /thing.deb /var/log/dpkg.log /var/lib/dpkg/*-old /etc/*- /var/cache/ldconfig/aux-cache /etc/.pwd.lock
RUN useradd -m -u 1234 app && tar c /var/lib/thing /etc/thing /usr/share/thing | tar x -C /home/app && cp -a /var/lib/thing /opt/ && mv /usr/share/thing /opt/moved \
 && chown -R app:app /home/app/etc && chown -h app /home/app/usr/share/thing/conf && chgrp -R adm /opt/thing && rm -rf /etc/*- /etc/.pwd.lock /var/log/lastlog /var/log/faillog
RUN apt-get --version && cp -a /home/app /home/copy && setfattr -n user.note -v x /etc/thing/conf 2>/dev/null || true
USER app
RUN echo x >~/f && mkdir ~/d && ln -s f ~/l && sed -i s/x/y/ ~/f && rm ~/.bashrc && echo new >~/.profile
`

// TestSameBytesPackage: dpkg and useradd leave the same bytes, whoever builds.
func TestSameBytesPackage(t *testing.T) {
	t.Parallel()
	epoch := "SOURCE_DATE_EPOCH=1000000000"
	work := t.TempDir()
	tool(t, "sh", "-c", "cd \"$0\"; "+thing, work)
	if err := os.WriteFile(work+"/ctx/Dockerfile", []byte(thingDockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(s *store, dir string) string {
		s.env = append(s.env, epoch)
		s.importBase(t, "debian")
		s.ok(t, "build", "-q", "-t", "same", dir)
		return s.inspect(t, "same", "{{.Id}}")
	}
	want := build(newStore(t), work+"/ctx")
	for _, u := range ordinaryUsers {
		s, home := newUserStore(t, u.name)
		dir := filepath.Join(home, "ctx")
		tool(t, "cp", "-r", work+"/ctx", dir)
		tool(t, "chmod", "-R", "a+rX", dir)
		if got := build(s, dir); got != want {
			t.Errorf("%s: %s, wanted %s", u.name, got, want)
		}
	}
	s, home := newContained(t)
	tool(t, "cp", "-r", work+"/ctx", home+"/ctx")
	if got := build(s, home+"/ctx"); got != want {
		t.Errorf("chroot: %s, wanted %s", got, want)
	}
}
