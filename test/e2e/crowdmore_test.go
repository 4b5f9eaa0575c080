package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What a crowd does with containers, volumes, manifest lists, edits, and through a server of its store.

// moreOps are the operations of this file.
func moreOps() []op {
	return []op{
		{16, (*worker).useBox}, {8, (*worker).export}, {12, (*worker).volume}, {3, (*worker).pruneVolumes},
		{10, (*worker).list}, {12, (*worker).edit}, {10, (*worker).fromServer}, {8, (*worker).toServer}, {12, (*worker).fillDisk},
	}
}

// useBox does something with a container that leaves it as it is.
func (w *worker) useBox() {
	if len(w.boxes) == 0 {
		return
	}
	box := w.boxThere()
	file := filepath.Join(w.dir, "copied")
	switch w.r.Intn(6) {
	case 0:
		runs := w.runs(box)
		if r, ok := w.say("exec", "exec", box, "echo", "hello"); ok && r.stdout != "hello\n" || !ok && r.code > 0 && runs {
			w.t.Errorf("worker %d: %v", w.n, r)
		}
	case 1:
		os.WriteFile(file, []byte(box), 0o644)
		if _, ok := w.say("box", "cp", file, box+":/copied"); !ok {
			return
		}
		if r, ok := w.say("box", "cp", box+":/copied", "-"); ok && !strings.Contains(r.stdout, box) {
			w.t.Errorf("worker %d: %v", w.n, r)
		}
	case 2:
		w.say("box", "diff", box)
	case 3:
		w.say("box", "logs", box)
	case 4:
		if runs := w.runs(box); runs {
			begin := w.begin()
			w.stopped(box, begin) // for a moment, or for good where it is killed
			if _, ok := w.say("start", "restart", "-t", "0", box); ok {
				w.running(box)
			}
		}
	case 5:
		if len(w.wrap) == 0 { // which takes a cgroup
			w.say("pause", "pause", box)
			w.store.run(w.t, "unpause", box) // if it was, which nobody knows who was killed
		}
	}
}

// export makes an image of all that is in a container.
func (w *worker) export() {
	if len(w.boxes) == 0 {
		return
	}
	file := filepath.Join(w.dir, "exported.tar")
	if _, ok := w.say("box", "export", "-o", file, w.boxThere()); !ok {
		return
	}
	name := w.own()
	if r, begin, ok := w.naming("import", name, "import", "--change", path, "--change", `CMD ["echo", "imported"]`, file, name); ok {
		w.addImage(name, strings.TrimSpace(r.stdout), "imported", begin)
	}
}

// volume writes to a volume, and to one without a name, or removes it.
func (w *worker) volume() {
	name := fmt.Sprintf("vol-%d-%d", w.n, w.r.Intn(2))
	if w.r.Intn(5) == 0 {
		was := w.takeVolume(name)
		if r, ok := w.say("volume rm", "volume", "rm", name); !ok && r.code > 0 && w.was(was) && !strings.Contains(r.stderr, "volume is in use") {
			w.t.Errorf("worker %d: %s is lost: %v", w.n, name, r)
		}
		return
	}
	w.serial++
	line, begin := fmt.Sprintf("%d\n", w.serial), w.begin()
	r, ok := w.say("volume", "run", "--rm", "--network", "none", "-v", name+":/data", "-v", "/nameless", "busybox",
		"sh", "-c", "touch /data/log && cat /data/log && sync && echo "+strings.TrimSpace(line)+" >>/data/log && cp /data/log /nameless")
	had, must := w.volumeOf(name)
	switch {
	case ok && must && !strings.HasPrefix(r.stdout, had):
		w.t.Errorf("worker %d: volume %s had %q: %v", w.n, name, had, r)
	case ok:
		w.addVolume(name, r.stdout+line, begin)
	}
}

func (w *worker) pruneVolumes() {
	if w.r.Intn(3) > 0 {
		w.say("prune", "volume", "prune", "-f")
		return
	}
	defer w.losing(lossVolumes)()
	w.say("prune", "volume", "prune", "-a", "-f")
}

// list makes manifest lists, pushes and removes them.
func (w *worker) list() {
	name := fmt.Sprintf("%s/w%d/list:%d", w.registry, w.n, w.r.Intn(2))
	switch w.r.Intn(6) {
	case 0:
		w.say("list", "manifest", "rm", name)
	case 1:
		w.say("list", "manifest", "inspect", name)
	case 2:
		w.say("list", "manifest", "push", "-q", "--purge", name)
	default:
		one, two := w.there(), w.there()
		a, _ := w.image(one)
		b, _ := w.image(two)
		if _, ok := w.say("list", "manifest", "create", "--amend", name, one, two); !ok {
			return
		}
		if _, ok := w.say("list", "manifest", "push", "-q", name); !ok {
			return
		}
		w.say("list", "manifest", "rm", name)
		// Who pulls it gets one of the two, or one that was in it before.
		if text, ok := w.outside(name); ok && a.id != "" && text == "" {
			w.t.Errorf("worker %d: the list %s of %s and %s prints nothing", w.n, name, a.id, b.id)
		}
	}
}

// edit makes an image of another without a Dockerfile.
func (w *worker) edit() {
	from, name := w.there(), w.own()
	before, _ := w.image(from)
	w.serial++
	args := []string{"image", "flatten", "-q", "-t", name, from}
	switch w.r.Intn(3) {
	case 0:
		args = []string{"image", "mutate", "-q", "--label", fmt.Sprintf("edit=%d-%d", w.n, w.serial), "-t", name, from}
	case 1:
		dir := filepath.Join(w.dir, "appended")
		os.MkdirAll(dir, 0o755)
		os.WriteFile(filepath.Join(dir, "appended"), fmt.Appendf(nil, "%d %d", w.n, w.serial), 0o644)
		args = []string{"image", "append", "-q", "-b", from, "-t", name, "--to", "/srv", dir}
	}
	r, begin, ok := w.naming("edit", name, args...)
	switch {
	case ok:
		w.learn(name, begin)
		if now, must := w.image(name); must && before.id != "" && now.text != before.text {
			w.t.Errorf("worker %d: %s of %s prints %q, want %q", w.n, name, from, now.text, before.text)
		}
	case r.code > 0:
		w.wantLost(from, r)
	}
}

// served is a name that the server of the store gives out as repo:tag.
func (w *worker) served(repo string) (local, remote string) {
	repo = fmt.Sprintf("%s/w%d:%d", repo, w.n, w.r.Intn(2))
	return repo, w.server + "/" + repo
}

// fromServer names an image so that the server of the store gives it out, and pulls it from there.
func (w *worker) fromServer() {
	name := w.there()
	local, remote := w.served("served")
	before, _ := w.image(name)
	if _, ok := w.say("tag", "tag", name, local); !ok {
		return
	}
	text, ok := w.outside(remote)
	if after, must := w.image(name); ok && must && before.id == after.id && text != after.text {
		w.t.Errorf("worker %d: %s from the server prints %q, want %q", w.n, name, text, after.text)
	}
}

// toServer pushes an image to the server of the store, from another store.
func (w *worker) toServer() {
	public := w.public(w.r.Intn(public))
	local, remote := w.served("pushed")
	if _, ok := w.outside(public); !ok {
		return
	}
	r := w.elsewhere.run(w.t, "inspect", "-f", "{{.Id}}", public)
	w.elsewhere.ok(w.t, "tag", public, remote)
	begin := w.begin()
	was := w.takeImage(local)
	if r := w.elsewhere.run(w.t, "push", "-q", remote); r.code != 0 {
		w.judge("outside", r)
		w.keepImage(local, was)
		return
	}
	w.addImage(local, strings.TrimSpace(r.stdout), public, begin)
}

// outside pulls an image into a store of the worker's own, and is what it prints there.
func (w *worker) outside(name string) (text string, ok bool) {
	w.count("outside")
	for _, args := range [][]string{{"pull", "-q", name}, {"run", "--rm", "--network", "none", name}} {
		r := w.elsewhere.run(w.t, args...)
		if r.code != 0 {
			w.judge("outside", r)
			return "", false
		}
		text = strings.TrimSuffix(r.stdout, "\n")
	}
	return text, true
}

// fillDisk takes all the room that is left, for as long as a few more operations take.
func (w *worker) fillDisk() {
	if !w.fills || !w.filling.TryLock() {
		return
	}
	defer w.filling.Unlock()
	name := filepath.Join(filepath.Dir(w.root), "filler")
	f, err := os.Create(name)
	if err != nil { // it is full already
		return
	}
	defer os.Remove(name)
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	w.count("the disk is filled")
	for range 3 {
		w.one()
	}
}
