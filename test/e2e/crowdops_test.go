package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// op is something that a worker does.
type op struct {
	weight int
	do     func(w *worker)
}

func ops() []op {
	return append(moreOps(), []op{
		{40, (*worker).build}, {10, (*worker).buildFromShared}, {16, (*worker).tagShared}, {16, (*worker).tagOwn},
		{12, (*worker).remove}, {8, (*worker).removeShared}, {4, (*worker).removeByID},
		{20, (*worker).push}, {24, (*worker).pull}, {16, (*worker).pullOwn},
		{24, (*worker).runOnce}, {16, (*worker).runOn}, {12, (*worker).create}, {20, (*worker).endBox}, {12, (*worker).commit},
		{12, (*worker).saveLoad}, {12, (*worker).look}, {3, (*worker).checkNow},
		{6, (*worker).pruneImages}, {2, (*worker).pruneAll}, {4, (*worker).pruneSystem}, {2, (*worker).pruneSystemAll}, {6, (*worker).pruneBuilder}, {4, (*worker).pruneBoxes},
	}...)
}

// reasons are the errors that may come of what others do at the same time: of each kind of command what it may
// say, and why.
var reasons = map[string][]struct{ text, why string }{
	"build":        {},
	"build from":   {{`not found`, "its base was removed"}},
	"tag":          {{`^No such image: `, "it was removed"}},
	"rmi":          {{`^No such image: `, "it was removed"}, {`^conflict: unable to (delete|remove) `, "it is used"}},
	"push":         {{`^An image does not exist locally with the tag: `, "it was removed"}},
	"pull":         {},
	"run":          {{`^No such image: `, "it was removed"}},
	"create":       {{`^No such image: `, "it was removed"}},
	"start":        {{`^No such container: `, "it was pruned"}},
	"commit":       {{`^No such container: `, "it was pruned"}},
	"rm":           {{`^No such container: `, "it was pruned"}},
	"save":         {{`^No such image: `, "it was removed"}},
	"load":         {},
	"look":         {{`^(no|No) such (object|image|container): `, "it was removed"}},
	"system check": {},
	"prune":        {},
	"import":       {},
	"exec":         {{`^No such container: `, "it was pruned"}, {`is not running$`, "it has ended"}},
	"pause":        {{`^No such container: `, "it was pruned"}, {`is not running$`, "it has ended"}, {`is already paused$`, "it was paused before"}},
	"box":          {{`(?i)no such container: `, "it was pruned"}},
	"volume":       {},
	"volume rm":    {{`^no such volume: `, "it was removed"}, {`volume is in use`, "its container was killed"}},
	"list":         {{`(?i)no such (image|manifest): `, "it was removed"}, {` has no images$`, "it was made anew"}},
	"edit":         {{`^No such image: `, "it was removed"}},
	"outside":      {{`not found`, "it was removed"}},
}

// reason is why a command of a kind may say text; "" where it may not.
func reason(kind, text string) string {
	for _, r := range reasons[kind] {
		if regexp.MustCompile(r.text).MatchString(text) {
			return r.why
		}
	}
	return ""
}

// wantLost fails where an image is said not to be there that has to be.
func (w *worker) wantLost(name string, r result) {
	if w.mustImage(name) {
		w.t.Errorf("worker %d: %s is lost: %v", w.n, name, r)
	}
}

// naming runs a command that gives a name to something else; where it fails the name stays what it was.
func (w *worker) naming(kind, name string, args ...string) (r result, begin int, ok bool) {
	w.t.Helper()
	begin = w.begin()
	was := w.takeImage(name)
	if r, ok = w.say(kind, args...); !ok && r.code > 0 {
		w.keepImage(name, was)
	}
	return r, begin, ok
}

// build makes an image that is like no other.
func (w *worker) build() {
	w.serial++
	text := fmt.Sprintf("worker %d, %d", w.n, w.serial)
	dir := filepath.Join(w.dir, "context")
	os.MkdirAll(dir, 0o755)
	os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(crowdFile), 0o644)
	os.WriteFile(filepath.Join(dir, "own"), []byte(text), 0o644)
	name := w.own()
	if r, begin, ok := w.naming("build", name, "build", "-q", "-t", name, dir); ok {
		w.addImage(name, strings.TrimSpace(r.stdout), "same for all\n"+text, begin)
	}
}

func (w *worker) buildFromShared() {
	dir := filepath.Join(w.dir, "from")
	os.MkdirAll(dir, 0o755)
	w.serial++
	os.WriteFile(filepath.Join(dir, "Dockerfile"), fmt.Appendf(nil, "FROM %s\nRUN echo %d %d >/again\n", w.any(), w.n, w.serial), 0o644)
	w.say("build from", "build", "-q", "-t", w.shared(w.r.Intn(4)), dir)
}

func (w *worker) tagShared() {
	name := w.there()
	if r, ok := w.say("tag", "tag", name, w.shared(w.r.Intn(4))); !ok && r.code > 0 {
		w.wantLost(name, r)
	}
}

// tagOwn gives an image of others a name of one's own.
func (w *worker) tagOwn() {
	name := w.own()
	if _, begin, ok := w.naming("tag", name, "tag", w.any(), name); ok {
		w.learn(name, begin)
	}
}

// learn adds an image that this worker has just named, of which it does not know what it is.
func (w *worker) learn(name string, begin int) {
	r := w.store.run(w.t, "inspect", "-f", "{{.Id}}", name)
	if r.code != 0 {
		w.judge("look", r)
		return
	}
	text := w.store.run(w.t, "run", "--rm", "--pull", "never", "--network", "none", name)
	if text.code != 0 {
		w.judge("run", text)
		return
	}
	w.addImage(name, strings.TrimSpace(r.stdout), strings.TrimSuffix(text.stdout, "\n"), begin)
}

func (w *worker) remove() {
	name := w.own()
	was := w.takeImage(name)
	r, ok := w.say("rmi", "rmi", name)
	switch {
	case ok:
		if left := w.store.run(w.t, "images", "-q", name); left.stdout != "" {
			w.t.Errorf("worker %d: %s is still there: %v", w.n, name, left)
		}
	case strings.Contains(r.stderr, "conflict: "):
		w.keepImage(name, was)
	case r.code > 0 && w.was(was):
		w.t.Errorf("worker %d: %s is lost: %v", w.n, name, r)
	}
}

func (w *worker) removeShared() { w.say("rmi", "rmi", w.any()) }

// removeByID removes an image with all its names, those of others too.
func (w *worker) removeByID() {
	r := w.store.run(w.t, "images", "-q", "--no-trunc", w.any())
	id := strings.TrimSpace(r.stdout)
	if r.code != 0 || id == "" || strings.Contains(id, "\n") {
		return
	}
	end := w.losing(id)
	defer end()
	w.say("rmi", "rmi", "-f", id)
}

func (w *worker) push() {
	name := w.there()
	r, ok := w.say("push", "push", "-q", name)
	if t, must := w.image(name); ok && must {
		w.pushed[name] = t.id
	} else if ok || r.code <= 0 {
		delete(w.pushed, name) // nobody knows which it is
	} else {
		w.wantLost(name, r)
	}
}

func (w *worker) pull() {
	name := w.public(w.r.Intn(public))
	if _, ok := w.say("pull", "pull", "-q", name); !ok {
		return
	}
	r, ok := w.say("run", "run", "--rm", "--pull", "never", "--network", "none", name)
	if ok && r.stdout != name {
		w.t.Errorf("%s prints %q: %v", name, r.stdout, r)
	}
}

// pullOwn brings back what this worker has pushed.
func (w *worker) pullOwn() {
	name := w.own()
	id := w.pushed[name]
	if id == "" {
		return
	}
	_, begin, ok := w.naming("pull", name, "pull", "-q", name)
	if !ok {
		return
	}
	w.learn(name, begin)
	if t, must := w.image(name); must && t.id != id {
		w.t.Errorf("worker %d: %s came back as %s, was pushed as %s", w.n, name, t.id, id)
	}
}

func (w *worker) runOnce() {
	name := w.there()
	before, _ := w.image(name)
	r, ok := w.say("run", "run", "--rm", "--pull", "never", "--network", "none", name)
	switch after, must := w.image(name); {
	case ok && must && before.id == after.id && strings.TrimSuffix(r.stdout, "\n") != after.text:
		w.t.Errorf("worker %d: it prints %q, want %q: %v", w.n, r.stdout, after.text, r)
	case !ok && r.code > 0:
		w.wantLost(name, r)
	}
}

func (w *worker) box() string {
	w.serial++
	name := fmt.Sprintf("box-%d-%d", w.n, w.serial)
	w.boxes = append(w.boxes, name)
	return name
}

// runOn leaves a container running.
func (w *worker) runOn() {
	image, box, begin := w.there(), w.box(), w.begin()
	network := []string{"none", "none", "bridge"}[w.r.Intn(3)]
	r, ok := w.say("run", "run", "-d", "--name", box, "--pull", "never", "--network", network, image, "sleep", "1000000")
	if ok {
		w.addBox(box, image, true, begin)
		w.trace(box)
	} else if r.code > 0 {
		w.wantLost(image, r)
	}
}

func (w *worker) create() {
	image, box, begin := w.there(), w.box(), w.begin()
	r, ok := w.say("create", "create", "--name", box, "--pull", "never", "--network", "none", image)
	if !ok {
		if r.code > 0 {
			w.wantLost(image, r)
		}
		return
	}
	w.addBox(box, image, false, begin)
	if r, ok := w.say("start", "start", "-a", box); !ok && r.code > 0 && w.mustBox(box) {
		w.t.Errorf("worker %d: container %s is lost: %v", w.n, box, r)
	}
}

// endBox ends a container, in one of several ways.
func (w *worker) endBox() {
	if len(w.boxes) == 0 {
		return
	}
	i := w.r.Intn(len(w.boxes))
	box := w.boxes[i]
	if w.kills && w.r.Intn(3) == 0 { // its monitor dies, and it with it
		w.stopped(box, w.begin())
		r := w.store.run(w.t, "inspect", "-f", "{{.State.Pid}}", box)
		var pid int
		if fmt.Sscan(r.stdout, &pid); r.code == 0 && pid > 0 {
			w.killMonitor(box)
		}
		return
	}
	if w.r.Intn(2) == 0 {
		w.stopped(box, w.begin())
		if r, ok := w.say("rm", "stop", "-t", "0", box); !ok && r.code > 0 && w.mustBox(box) {
			w.t.Errorf("worker %d: container %s is lost: %v", w.n, box, r)
		}
		return
	}
	was := w.takeBox(box)
	w.boxes = slices.Delete(w.boxes, i, i+1)
	if r, ok := w.say("rm", "rm", "-f", box); !ok && r.code > 0 && w.was(was) {
		w.t.Errorf("worker %d: container %s is lost: %v", w.n, box, r)
	}
}

// killMonitor kills the process that watches a container.
func (w *worker) killMonitor(box string) {
	id := strings.TrimSpace(w.store.run(w.t, "inspect", "-f", "{{.Id}}", box).stdout)
	if len(id) != 64 {
		return
	}
	for _, line := range processes(id) {
		var pid int
		if fmt.Sscan(line, &pid); pid > 0 {
			syscall.Kill(pid, syscall.SIGKILL)
			w.count("monitor killed")
		}
	}
}

func (w *worker) commit() {
	if len(w.boxes) == 0 {
		return
	}
	box := w.boxThere()
	name := w.own()
	r, begin, ok := w.naming("commit", name, "commit", "-c", `CMD ["echo", "committed"]`, box, name)
	switch {
	case ok:
		w.addImage(name, strings.TrimSpace(r.stdout), "committed", begin)
	case r.code > 0 && w.mustBox(box):
		w.t.Errorf("worker %d: container %s is lost: %v", w.n, box, r)
	}
}

func (w *worker) saveLoad() {
	name, file := w.there(), filepath.Join(w.dir, "saved.tar")
	saved, _ := w.image(name)
	format := []string{"docker", "oci"}[w.r.Intn(2)]
	r, ok := w.say("save", "save", "--format", format, "-o", file, name)
	if !ok {
		if r.code > 0 {
			w.wantLost(name, r)
		}
		return
	}
	if saved.id == "" {
		return
	}
	if _, begin, ok := w.naming("load", name, "load", "-q", "-i", file); ok {
		w.addImage(name, saved.id, saved.text, begin)
	}
}

// look runs the commands that only read.
func (w *worker) look() {
	images, boxes := w.all()
	switch w.r.Intn(5) {
	case 0:
		r, ok := w.say("look", "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
		for name, before := range images {
			if after, must := w.image(name); ok && must && after.since == before.since && !strings.Contains(r.stdout, name+" "+before.id+"\n") {
				w.t.Errorf("worker %d: %s %s is lost: %v", w.n, name, before.id, r)
			}
		}
	case 1:
		r, ok := w.say("look", "ps", "-a", "--format", "{{.Names}}.")
		for box := range boxes {
			if ok && w.mustBox(box) && !strings.Contains(r.stdout, box+".") {
				w.t.Errorf("worker %d: container %s is lost: %v", w.n, box, r)
			}
		}
	case 2:
		w.say("look", "system", "df", "-v")
	case 3:
		w.say("look", "history", w.any())
	case 4:
		w.say("look", "builder", "du")
	}
}

func (w *worker) checkNow() { w.say("system check", "system", "check") }

func (w *worker) pruneImages() { w.say("prune", "image", "prune", "-f") }

func (w *worker) pruneAll() {
	defer w.losing(lossImages)()
	w.say("prune", "image", "prune", "-a", "-f")
}

func (w *worker) pruneBoxes() {
	defer w.losing(lossBoxes)()
	w.say("prune", "container", "prune", "-f")
}

func (w *worker) pruneSystem() {
	defer w.losing(lossBoxes)()
	w.say("prune", "system", "prune", "-f")
}

func (w *worker) pruneSystemAll() {
	defer w.losing(lossBoxes, lossImages)()
	w.say("prune", "system", "prune", "-a", "-f", "--volumes")
}

func (w *worker) pruneBuilder() {
	args := []string{"builder", "prune", "-f"}
	if w.r.Intn(2) == 0 {
		args = append(args, "-a")
	}
	w.say("prune", args...)
}
