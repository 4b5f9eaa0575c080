package e2e

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// leaked is s with a nacre that was started with the world's folder open as descriptors 7 and 9.
func (w *world) leaked(s *store) *store {
	return &store{root: s.root, env: s.env, wrap: append(slices.Clone(s.wrap), w.program, "leak", w.dir)}
}

// unchanged notes what is in a folder outside; the function returned asserts that it is the same.
func unchanged(t *testing.T, dir string) (check func(what string)) {
	t.Helper()
	look := func() string {
		return tool(t, "sh", "-c", `cd "$0" && find . -printf '%P %y %m %U %s\n' | sort && find . -type f -exec md5sum {} + | sort`, dir)
	}
	before := look()
	return func(what string) {
		t.Helper()
		if now := look(); now != before {
			t.Errorf("%s: outside there is\n%s\nand was\n%s", what, now, before)
			before = now
		}
	}
}

// TestEscapeWorkdir: no working directory is one of the machine's, by a descriptor that somebody left open
// (CVE-2024-21626), and none is made there.
func TestEscapeWorkdir(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	l := w.leaked(s)
	same := unchanged(t, w.dir)
	l.ok(t, "run", "-d", "--name", "web", "--network", "none", "tricks", "sleep", "1000")
	t.Cleanup(func() { s.run(t, "rm", "-f", "web") })
	var config strings.Builder
	for n := 3; n < 12; n++ {
		for i, dir := range []string{"/proc/1/fd/%d/evil", "/proc/self/fd/%d/evil", "/proc/self/fd/%d", "/proc/1/fd/%d", "/proc/1/fd/%d/../.."} {
			if i > 0 && n != 7 { // which our caller left open; the others are our own, if any
				continue
			}
			dir = fmt.Sprintf(dir, n)
			for _, args := range [][]string{
				{"run", "--rm", "--network", "none", "-w", dir}, {"run", "--rm", "--init", "--network", "none", "-w", dir}, {"exec", "-w", dir},
			} {
				image := "tricks"
				if args[0] == "exec" {
					image = "web"
				}
				r := l.run(t, slices.Concat(args, w.env(image, "/escape", "one", "working directory"))...)
				if r.code == 0 && !strings.HasPrefix(r.stdout, "working directory: refused: ") {
					t.Errorf("%v", r)
				}
			}
			if n == 7 {
				fmt.Fprintf(&config, "FROM tricks AS s%d%s\nWORKDIR %s\nRUN /escape one 'working directory' >/outcome\n", n, strings.NewReplacer("/", "", ".", "").Replace(dir), dir)
			}
		}
	}
	same("run and exec")
	// The same in a config: what the image says, and what a RUN step has.
	for file := range strings.SplitSeq(strings.TrimSpace(config.String()), "FROM ") {
		if file == "" {
			continue
		}
		dir := writeFiles(t, map[string]string{"Dockerfile": "FROM " + file})
		l.run(t, "build", "-q", "-t", "worked", dir)
		same("build " + file)
	}
	for _, dir := range []string{"/proc/self/fd/7", "/proc/self/fd/7/evil", "/proc/1/fd/7/evil", "/proc/1/fd/9/../../evil"} {
		s.ok(t, "import", "-c", "WORKDIR "+dir, baseTar(t, "busybox"), "configured")
		if r := l.run(t, "run", "--rm", "--network", "none", "-v", w.program+":/escape", "configured", "/escape", "secret"); r.code == 0 {
			t.Errorf("%v", r)
		}
		same("config")
	}
	// Without a wall a folder that is made there is there.
	control := exec.Command(w.program, "leak", w.dir, "/bin/sh", "-c", "mkdir -p /proc/self/fd/7/evil && cd /proc/self/fd/7/evil && "+w.program+" one 'working directory'")
	control.Env = append(os.Environ(), w.facts...)
	out, err := control.CombinedOutput()
	if _, serr := os.Stat(w.dir + "/evil"); err != nil || serr != nil || !strings.Contains(string(out), "through") {
		t.Errorf("it would not be seen: %v, %v\n%s", err, serr, out)
	}
}

// TestEscapeDescriptors: what nacre was started with stays its own, in all that it starts.
func TestEscapeDescriptors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	l := w.leaked(s)
	l.ok(t, "run", "-d", "--name", "web", "--init", "--network", "none", "tricks", "sleep", "1000")
	t.Cleanup(func() { s.run(t, "rm", "-f", "web") })
	for _, args := range [][]string{
		{"run", "--rm", "--network", "none", "tricks"}, {"run", "--rm", "--init", "--network", "none", "tricks"},
		{"run", "--rm", "--userns", "auto", "--network", "none", "tricks"}, {"run", "--rm", "--pid", "container:web", "--network", "none", "tricks"}, {"exec", "web"},
	} {
		noneThrough(t, l.ok(t, append(args, "/escape", "one", "descriptors")...), "descriptors")
	}
	dir := writeFiles(t, map[string]string{"Dockerfile": "FROM tricks\nRUN /escape one descriptors | cat >/outcome\n"})
	l.ok(t, "build", "-q", "-t", "tried", dir)
	noneThrough(t, s.ok(t, "run", "--rm", "--network", "none", "tried", "cat", "/outcome"), "descriptors")
	// The monitor, which stays, holds no folder that its caller had open, nor does the first process.
	pid := s.ok(t, "container", "inspect", "-f", "{{.State.Pid}}", "web")
	monitor := strings.Fields(tool(t, "cat", "/proc/"+pid+"/stat"))[3]
	for _, p := range []string{pid, monitor} {
		if out := tool(t, "sh", "-c", "ls -l /proc/"+p+"/fd"); strings.Contains(out, w.dir+"\n") || strings.HasSuffix(out, w.dir) {
			t.Errorf("process %s has\n%s", p, out)
		}
	}
	if out, err := exec.Command(w.program, "leak", w.dir, "/bin/ls", "-l", "/proc/self/fd/").CombinedOutput(); err != nil || !strings.Contains(string(out), w.dir+"\n") {
		t.Errorf("it would not be seen: %v\n%s", err, out)
	}
}

// TestEscapeProgram: this program, as it is executed beside or inside of a container, is not to be had for writing
// (CVE-2019-5736).
func TestEscapeProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	dir := writeFiles(t, map[string]string{"Dockerfile": `FROM tricks
RUN printf '#!/proc/self/exe\n' >/bin/evil && chmod 755 /bin/evil && ln -s /proc/self/exe /bin/own && mkdir /x && ln -s /proc/self/exe /x/sh
`})
	s.build(t, "evil", dir)
	before := tool(t, "sha256sum", nacre)
	s.ok(t, "run", "-d", "--name", "grabber", "--network", "none", "evil", "/escape", "grab")
	t.Cleanup(func() { s.run(t, "rm", "-f", "grabber") })
	until(t, "it to begin", func() bool { return strings.Contains(s.ok(t, "logs", "grabber"), "ready") })
	for range 2 {
		for _, program := range []string{"/bin/evil", "/bin/own", "/proc/self/exe", "/x/sh"} {
			s.run(t, "exec", "grabber", program, "version")
			for _, flags := range [][]string{{}, {"--init"}} {
				s.run(t, slices.Concat([]string{"run", "--rm", "--network", "none", "--pid", "container:grabber"}, flags, []string{"evil", program, "version"})...)
				s.run(t, slices.Concat([]string{"run", "--rm", "--network", "none"}, flags, []string{"--entrypoint", "/escape", "evil", "one", "secret"})...)
			}
		}
	}
	// An init is executed in there for good.
	s.ok(t, "run", "-d", "--init", "--name", "init", "--network", "none", "--pid", "container:grabber", "evil", "sleep", "1")
	s.ok(t, "wait", "init")
	// As a mount that is nowhere it has no name.
	if out := s.ok(t, "logs", "grabber"); strings.Contains(out, "could write to /\n") || strings.Contains(out, nacre) || !strings.Contains(out, "holds /\n") {
		t.Errorf("%s", out)
	}
	if now := tool(t, "sha256sum", nacre); now != before {
		t.Error("the program is another")
	}
	// A program that lies in there is held, and written to as soon as it has ended.
	s.ok(t, "exec", "grabber", "sh", "-c", "cp /escape /bin/copy; timeout 0.5 /bin/copy grab >/dev/null; true")
	until(t, "the copy", func() bool { return strings.Contains(s.ok(t, "logs", "grabber"), "could write to /bin/copy") })
}

// hostileRoot is an image's tar: busybox, with links in the place of names that containers are given.
func hostileRoot(t *testing.T, entries ...entry) string {
	t.Helper()
	base, err := os.ReadFile(baseTar(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r, tw := tar.NewReader(bytes.NewReader(base)), tar.NewWriter(&out)
	replaced := func(name string) bool {
		name = strings.Trim(strings.TrimPrefix(name, "./"), "/")
		return slices.ContainsFunc(entries, func(e entry) bool { return name == e.Name || strings.HasPrefix(name, e.Name+"/") })
	}
	for {
		h, err := r.Next()
		if err != nil {
			break
		}
		if replaced(h.Name) {
			continue
		}
		var body bytes.Buffer
		body.ReadFrom(r)
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		tw.Write(body.Bytes())
	}
	for _, e := range entries {
		if err := tw.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		tw.Write([]byte(e.body))
	}
	tw.Close()
	path := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEscapeLinks: what is put into a root stays in there, whatever its image has in that place.
func TestEscapeLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newBusybox(t)
	victim := w.dir + "/victim"
	os.MkdirAll(victim+"/sub", 0o755)
	for _, name := range []string{"hosts", "resolv.conf", "hostname", "null", "file"} {
		os.WriteFile(victim+"/"+name, []byte("mine\n"), 0o644)
	}
	same := unchanged(t, w.dir)
	up := strings.Repeat("../", 20) + victim[1:]
	inside := 0
	for name, target := range map[string]string{
		"etc": victim, "etc/hosts": victim + "/hosts", "etc/resolv.conf": up + "/resolv.conf", "etc/hostname": victim + "/new",
		"dev": victim, "dev ": up, "proc": victim + "/sub", "sys": up + "/sub", "dev/shm": victim + "/sub", "proc/self": victim, "proc/sys": victim,
		"etc ": "/proc/1/root" + victim, "etc  ": "/proc/self/root/.." + victim, "etc   ": "/proc/1/cwd/" + up,
	} {
		at := strings.TrimSpace(name)
		s.ok(t, "import", "-c", path, "-c", `CMD ["sh"]`, hostileRoot(t, link(tar.TypeSymlink, at, target)), "evil")
		for _, flags := range [][]string{{}, {"--init", "--memory", "100m", "-t"}, {"-v", "vol:/etc/deep/vol", "--tmpfs", "/dev/new", "--device", "/dev/kmsg:/dev/x/kmsg"}} {
			r := s.run(t, slices.Concat([]string{"run", "--rm", "--network", "none"}, flags, []string{"evil", "sh", "-c", "cat " + victim + "/hosts 2>/dev/null | head -c 9; echo x >/etc/hosts; echo x >>/etc/resolv.conf; echo x >/dev/null; echo x >/proc/sys/x; true"})...)
			if strings.HasPrefix(r.stdout, "127.0.0.1") || strings.HasPrefix(r.stdout, "::1") {
				inside++
			}
		}
		s.run(t, "build", "-q", writeFiles(t, map[string]string{"Dockerfile": "FROM evil\nRUN echo x >/etc/hosts; echo x >/dev/null; true\nWORKDIR /" + at + "/made\nCOPY Dockerfile /" + at + "/copied\n"}))
		if r := s.run(t, "create", "--name", "idle", "evil"); r.code == 0 {
			s.run(t, "cp", "/etc/hostname", "idle:/"+at+"/copied")
			s.run(t, "cp", "/etc/hostname", "idle:/"+at)
			s.run(t, "cp", "idle:/"+at+"/file", w.dir+"-copied")
			if data, err := os.ReadFile(w.dir + "-copied"); err == nil {
				t.Errorf("%s: copied out: %s", name, data)
				os.Remove(w.dir + "-copied")
			}
			s.ok(t, "rm", "idle")
		}
		same(fmt.Sprintf("%q is a link to %s", at, target))
	}
	if inside == 0 {
		t.Error("no link was followed inside, either")
	}
	// Who writes to such a root from outside writes to what the links lead to.
	root := t.TempDir()
	tool(t, "tar", "-xf", hostileRoot(t, link(tar.TypeSymlink, "etc", victim)), "-C", root)
	if err := os.WriteFile(root+"/etc/hosts", []byte("127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(victim + "/hosts"); string(data) != "127.0.0.1\n" {
		t.Errorf("it would not be seen: %q", data)
	}
}

// TestEscapeMarks: attributes by which overlay file systems and nacre keep their own notes mean nothing in an image. A
// redirection would show another directory, an owner would be another user.
func TestEscapeMarks(t *testing.T) {
	t.Parallel()
	marked := func(e entry) entry {
		e.Format, e.PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr.user.mine": "kept"}
		for _, prefix := range []string{"trusted.overlay.", "user.overlay."} {
			for name, value := range map[string]string{"opaque": "y", "redirect": "/etc", "metacopy": "", "origin": "x", "whiteout": "y", "nacre.implicit": "y"} {
				e.PAXRecords["SCHILY.xattr."+prefix+name] = value
			}
		}
		for name, value := range map[string]string{"owner": "33:33", "links": "f 33 33", "ids": "0:0"} {
			e.PAXRecords["SCHILY.xattr.user.nacre."+name] = value
		}
		return e
	}
	lower, err := os.ReadFile(hostileRoot(t, entry{tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755}, ""}, file("d/x", "x\n"), file("f", "other\n")))
	if err != nil {
		t.Fatal(err)
	}
	upper := tarOf(t, marked(entry{tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755}, ""}), marked(file("f", "mine\n")))
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"history":[{"created_by":"a"},{"created_by":"b"}],"rootfs":{"type":"layers","diff_ids":["%s","%s"]}}`, digestOf(lower), digestOf(upper))
	archive := tarOf(t, file("c.json", config), file("lower.tar", string(lower)), file("upper.tar", string(upper)),
		file("manifest.json", `[{"Config":"c.json","RepoTags":["marked:latest"],"Layers":["lower.tar","upper.tar"]}]`))
	root := filepath.Join(writeFilesFor(t, map[string]string{"image.tar": string(archive)}), "image.tar")
	for _, user := range []string{"", "nacre-test", "nacre-one"} {
		s := newStore(t)
		if user != "" {
			s, _ = newUserStore(t, user)
		}
		s.ok(t, "load", "-q", "-i", root)
		s.ok(t, "build", "-q", "-t", "above", writeFilesFor(t, map[string]string{"Dockerfile": "FROM marked\nRUN touch /d/y && mv /d/y /d/z\n"}))
		for image, want := range map[string]string{"marked": "x\nmine\n0 0", "above": "x\nz\nmine\n0 0"} {
			if out := s.ok(t, "run", "--rm", "--network", "none", image, "sh", "-c", "ls /d; cat /f; echo $(stat -c %u /d /f)"); out != want {
				t.Errorf("%q: %s shows %q, want %q", user, image, out, want)
			}
		}
	}
	if out := tool(t, "unshare", "--mount", "sh", "-c", overlayByHand, t.TempDir()); out != "" {
		t.Errorf("a mark would not be seen: %q", out)
	}
}

// overlayByHand mounts two directories over each other, of which the upper one says that nothing of the lower is to be seen.
const overlayByHand = `cd "$0" && mkdir -p low/d up/d m && touch low/d/x && setfattr -n trusted.overlay.opaque -v y up/d && mount -t overlay -o lowerdir=up:low x m && ls m/d && umount m`

// writeFilesFor is writeFiles for ordinary users to read.
func writeFilesFor(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := writeFiles(t, files)
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Dir(dir), 0o755)
	return dir
}

// TestEscapeAccounts: the lists of users and groups are the image's, and may be anything. Nothing is read that is not in the
// image, nothing waits, and nothing grows.
func TestEscapeAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newBusybox(t)
	w.image(t, s)
	os.WriteFile(w.dir+"/passwd", []byte("evil:x:77:77::/:/bin/sh\n"), 0o644)
	up := strings.Repeat("../", 20) + w.dir[1:] + "/passwd"
	long := entry{tar.Header{Name: "etc/passwd", Mode: 0o644, Size: 80 << 20, Typeflag: tar.TypeReg}, strings.Repeat("x", 80<<20)}
	for name, e := range map[string]entry{
		"pipe": {tar.Header{Name: "etc/passwd", Typeflag: tar.TypeFifo, Mode: 0o644}, ""}, "folder": {tar.Header{Name: "etc/passwd", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		"endless": {tar.Header{Name: "etc/passwd", Typeflag: tar.TypeChar, Mode: 0o644, Devmajor: 1, Devminor: 5}, ""}, "link": link(tar.TypeSymlink, "etc/passwd", up),
		"link of /proc": link(tar.TypeSymlink, "etc/passwd", "/proc/1/root"+w.dir+"/passwd"), "loop": link(tar.TypeSymlink, "etc/passwd", "passwd"), "long": long,
	} {
		s.ok(t, "import", "-c", path, "-c", `CMD ["sh"]`, hostileRoot(t, e), "odd")
		for _, args := range [][]string{{"run", "--rm", "--network", "none", "-u", "evil", "odd", "id", "-u"}, {"build", "-q", writeFiles(t, map[string]string{"Dockerfile": "FROM odd\nUSER evil\nRUN id -u\n"})}} {
			if r := s.run(t, args...); r.code == 0 || strings.Contains(r.stdout, "77") {
				t.Errorf("%s: %v", name, r)
			}
		}
	}
	// Changed while it runs.
	for i, change := range []string{"mkfifo /etc/passwd", "ln -s " + up + " /etc/passwd", "ln -s /proc/1/root" + w.dir + "/passwd /etc/passwd", "mknod /etc/passwd c 1 5", "truncate -s 20g /etc/passwd", "echo evil:x:77:77::/:/bin/sh >/etc/passwd"} {
		name := fmt.Sprint("web", i)
		s.ok(t, "run", "-d", "--name", name, "--network", "none", "busybox", "sh", "-c", "rm /etc/passwd; "+change+"; touch /ready; exec sleep 1000")
		t.Cleanup(func() { s.run(t, "rm", "-f", name) })
		until(t, "the change", func() bool { return s.run(t, "cp", name+":/ready", w.dir).code == 0 })
		good := strings.HasPrefix(change, "echo")
		if r := s.run(t, "exec", "-u", "evil", name, "id", "-u"); good != (r.code == 0 && r.stdout == "77\n") {
			t.Errorf("%s: %v", change, r)
		}
		s.ok(t, "cp", "-a", w.secret, name+":/tmp/")
	}
}

// TestEscapeLibraries: nothing of a container is loaded into this program (CVE-2019-14271): it has no loader that could.
func TestEscapeLibraries(t *testing.T) {
	t.Parallel()
	needsLoader := func(name string) bool {
		f, err := elf.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		libs, _ := f.ImportedLibraries()
		return len(libs) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC })
	}
	if needsLoader(nacre) {
		t.Error("it has a loader")
	}
	if !needsLoader("/usr/bin/find") {
		t.Error("it would not be seen")
	}
	// Variables that loaders and Go listen to are the container's business.
	w := newWorld(t)
	s := newStore(t)
	w.image(t, s)
	evil := []string{"-e", "LD_PRELOAD=/evil.so", "-e", "LD_AUDIT=/evil.so", "-e", "GODEBUG=inittrace=1", "-e", "GOTRACEBACK=crash", "-e", "_NACRE_ISOLATION=userns:0:0", "-e", "NACRE_ROOT=/evil"}
	for _, args := range [][]string{{"run", "--rm", "--network", "none"}, {"run", "--rm", "--init", "--network", "none"}} {
		r := s.run(t, slices.Concat(args, evil, []string{"tricks", "sh", "-c", "echo $LD_PRELOAD $NACRE_ROOT"})...)
		if r.code != 0 || r.stdout != "/evil.so /evil\n" || args[2] == "--network" && r.stderr != "" {
			t.Errorf("%v", r)
		}
	}
	s.ok(t, "run", "-d", "--name", "web", "--network", "none", "tricks", "sleep", "1000")
	t.Cleanup(func() { s.run(t, "rm", "-f", "web") })
	r := s.run(t, slices.Concat([]string{"exec"}, evil, []string{"web", "sh", "-c", "echo $LD_PRELOAD $NACRE_ROOT"})...)
	if r.code != 0 || r.stdout != "/evil.so /evil\n" || r.stderr != "" {
		t.Errorf("%v", r)
	}
}
