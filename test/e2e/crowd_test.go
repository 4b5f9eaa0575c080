package e2e

import (
	"database/sql"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // for store.db
)

// crowdSize is how many processes are at work on one store at any time.
const crowdSize = 8

// TestCrowd: eight processes build, pull, push, tag, edit, remove, run, save and prune on one store, which is served all the while.
// Nothing is lost that somebody had been told was done, nothing is left behind, and nobody is told of an error that has no reason.
func TestCrowd(t *testing.T) { newCrowd(t, newBusybox(t), t.TempDir()).run(t) }

// TestCrowdKilled is TestCrowd with commands, and those who watch containers, killed at random moments.
func TestCrowdKilled(t *testing.T) {
	c := newCrowd(t, newBusybox(t), t.TempDir())
	c.kills = true
	c.run(t)
}

// TestCrowdRootless is TestCrowdKilled as an ordinary user, whose layers are unpacked.
func TestCrowdRootless(t *testing.T) {
	s, home := newUserStore(t, "nacre-test")
	s.importBase(t, "busybox", `CMD ["sh"]`)
	c := newCrowd(t, s, home)
	c.kills, c.rounds = true, pick(10, 600)
	c.run(t)
}

// TestCrowdFull is TestCrowd on a small disk that is full now and then: then that may be said, and no more.
func TestCrowdFull(t *testing.T) {
	s := newTmpfs(t, "400m")
	s.importBase(t, "busybox", `CMD ["sh"]`)
	c := newCrowd(t, s, t.TempDir())
	c.fills, c.rounds = true, pick(12, 600)
	c.run(t)
}

// crowd is what all workers share.
type crowd struct {
	*store
	*model
	registry string // where all push to and pull from
	server   string // serves the store itself
	home     string // for what the workers need besides
	rounds   int    // for each worker
	kills    bool
	fills    bool
	filling  sync.Mutex

	counts sync.Mutex
	saw    map[string]int // what was done and said
	seen   traces
}

// public are images in the registry that all pull, and some remove.
const public = 4

// crowdFile is what all build: a step that is the same for all, one on a cache mount, and one's own.
const crowdFile = `FROM busybox
RUN echo same for all >/same
RUN --mount=type=cache,target=/cache date >>/cache/log && echo mounted >/mounted
COPY own /own
RUN cat /same /own >/both
CMD ["cat", "/both"]
`

func newCrowd(t *testing.T, s *store, home string) *crowd {
	folder := &store{root: filepath.Join(t.TempDir(), "registry")}
	c := &crowd{store: s, model: newModel(), saw: map[string]int{}, home: home, rounds: pick(20, 600)}
	srv := s.serveFolder(t, folder)
	c.registry = srv.addr
	// What is used all the time is not removed by anybody.
	s.ok(t, "run", "-d", "--name", "holder", "--network", "none", "busybox", "sleep", "1000000")
	for i := range public {
		name := c.public(i)
		files := map[string]string{"Dockerfile": "FROM busybox\nCOPY all /all\nCOPY big /big\nCMD [\"cat\", \"/name\"]\nCOPY name /name\n",
			"all": random(7, 1<<20), "big": random(int64(i), 3<<20), "name": name}
		dir := filepath.Join(home, "public")
		if err := os.Rename(writeFiles(t, files), dir); err != nil { // the user of the store cannot look into folders of tests
			t.Fatal(err)
		}
		s.build(t, name, dir)
		os.RemoveAll(dir)
		s.ok(t, "push", "-q", name)
		s.ok(t, "rmi", name)
	}
	t.Cleanup(func() {
		srv.stop(syscall.SIGTERM)
		folder.check(t)
		if l := listing(t, filepath.Join(folder.root, "tmp")); l != "." {
			t.Errorf("the registry has left in tmp:\n%s", l)
		}
	})
	return c
}

// serveFolder runs a registry in a folder of its own.
func (s *store) serveFolder(t testing.TB, folder *store) *registryServer {
	t.Helper()
	return folder.serve(t, "--dir", folder.root)
}

func (c *crowd) public(i int) string { return fmt.Sprintf("%s/public/x:%d", c.registry, i) }
func (c *crowd) shared(i int) string { return fmt.Sprintf("%s/shared/x:%d", c.registry, i) }

func (c *crowd) run(t *testing.T) {
	seed := time.Now().UnixNano()
	if text := os.Getenv("NACRE_SEED"); text != "" {
		seed, _ = strconv.ParseInt(text, 10, 64)
	}
	t.Logf("NACRE_SEED=%d", seed)
	srv := c.serve(t)
	c.server = srv.addr
	var workers []*worker
	var wg sync.WaitGroup
	for i := range crowdSize {
		w := &worker{crowd: c, t: t, n: i, r: rand.New(rand.NewSource(seed + int64(i))), dir: filepath.Join(c.home, fmt.Sprint("worker", i)), pushed: map[string]string{}}
		c.makeDir(t, w.dir)
		w.elsewhere = &store{root: filepath.Join(w.dir, "elsewhere"), wrap: c.wrap, env: c.env}
		workers = append(workers, w)
		wg.Go(w.work)
	}
	wg.Wait()
	if code := srv.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the server of the store ends with %d: %s", code, srv.out)
	}
	for _, what := range slices.Sorted(maps.Keys(c.saw)) {
		t.Logf("%5d %s", c.saw[what], what)
	}
	c.wantAll(t)
	c.wantNothingElse(t)
	for _, w := range workers {
		w.elsewhere.wantNothingElse(t, traces{})
	}
}

// makeDir makes a folder for the user of the store.
func (c *crowd) makeDir(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if len(c.wrap) > 0 {
		tool(t, "chown", "--reference", c.home, dir)
	}
}

// wantAll looks for all that has to be there.
func (c *crowd) wantAll(t *testing.T) {
	t.Helper()
	c.check(t)
	images, boxes := c.all()
	t.Logf("%d images and %d containers have to be there", len(images), len(boxes))
	for name, want := range images {
		if got := c.inspect(t, name, "{{.Id}}"); got != want.id {
			t.Errorf("%s is %s, was %s", name, got, want.id)
		}
		if got := c.ok(t, "run", "--rm", "--network", "none", "--pull", "never", name); got != want.text {
			t.Errorf("%s prints %q, want %q", name, got, want.text)
		}
	}
	for name := range boxes {
		c.ok(t, "container", "inspect", name)
	}
	for name, v := range c.volumes {
		if c.stays(v) {
			if got := c.ok(t, "run", "--rm", "--network", "none", "-v", name+":/data:ro", "busybox", "cat", "/data/log"); !strings.HasPrefix(got+"\n", v.text) {
				t.Errorf("volume %s has %q, had %q", name, got, v.text)
			}
		}
	}
}

// wantNothingElse removes everything and looks for what is left.
func (c *crowd) wantNothingElse(t *testing.T) {
	t.Helper()
	c.store.wantNothingElse(t, c.seen)
}

// wantNothingElse removes everything from a store and looks for what is left.
func (s *store) wantNothingElse(t *testing.T, seen traces) {
	t.Helper()
	if _, err := os.Stat(s.root); err != nil {
		return // it was never used
	}
	if ids := strings.Fields(s.ok(t, "ps", "-aq")); len(ids) > 0 {
		s.ok(t, append([]string{"rm", "-f"}, ids...)...)
	}
	s.ok(t, "system", "prune", "-a", "-f", "--volumes")
	s.ok(t, "volume", "prune", "-a", "-f")
	s.ok(t, "builder", "prune", "-a", "-f")
	s.collectPushed(t)
	s.check(t)
	s.left(t, seen)
	s.wantNoRows(t)
	for _, dir := range []string{"blobs/sha256", "blobs/sha512", "layers", "trees", "partial", "contexts", "caches", "volumes"} {
		if names, _ := os.ReadDir(filepath.Join(s.root, dir)); len(names) > 0 {
			t.Errorf("%s is left with %d entries, such as %s", dir, len(names), names[0].Name())
		}
	}
	if out := s.ok(t, "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Size}}"); regexp.MustCompile(`(?m) [1-9]\d* | [^0]\S*$`).MatchString(out) {
		t.Errorf("system df has\n%s", out)
	}
}

// collectPushed removes what was pushed to a store and has no name any more, as if the time were over that it stays for.
func (s *store) collectPushed(t *testing.T) {
	t.Helper()
	if _, err := s.db(t).Exec("UPDATE part SET until = 1"); err != nil {
		t.Fatal(err)
	}
	s.ok(t, "serve", "gc")
}

// wantNoRows looks for records in an empty store: leases, names, where something was.
func (s *store) wantNoRows(t *testing.T) {
	t.Helper()
	db := s.db(t)
	for _, table := range []string{"blob", "layer", "edge", "image", "name", "cache", "lease", "pin", "form", "remade", "part", "claim", "referrer", "container", "origin"} {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil || n > 0 {
			t.Errorf("table %s has %d rows, %v", table, n, err)
		}
	}
}

// db is the database of a store.
func (s *store) db(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.root, "nacre.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// worker is one of the crowd: it runs one command after the other.
type worker struct {
	*crowd
	t         *testing.T
	n         int // which
	r         *rand.Rand
	dir       string
	serial    int
	pushed    map[string]string // names this worker has pushed, to IDs
	boxes     []string          // containers it has made
	elsewhere *store            // a store that it alone uses
}

func (w *worker) work() {
	for range w.rounds {
		if w.t.Failed() {
			return
		}
		w.one()
	}
}

// one does one thing.
func (w *worker) one() {
	all, total := ops(), 0
	for _, o := range all {
		total += o.weight
	}
	n := w.r.Intn(total)
	for _, o := range all {
		if n -= o.weight; n < 0 {
			o.do(w)
			return
		}
	}
}

// trace notes what a container has of this machine, for that to be looked for at the end.
func (w *worker) trace(box string) {
	id := strings.TrimSpace(w.store.run(w.t, "inspect", "-f", "{{.Id}}", box).stdout)
	if t, err := w.traceOf(w.t, filepath.Join(w.root, "containers", id, "state.json")); err == nil {
		t.pids = nil // of so many the numbers are given again
		w.counts.Lock()
		defer w.counts.Unlock()
		w.seen.add(t)
	}
}

// own is a name that this worker alone gives.
func (w *worker) own() string { return fmt.Sprintf("%s/w%d/x:%d", w.registry, w.n, w.r.Intn(4)) }

// there is a name of one's own that most often has to be there.
func (w *worker) there() string {
	name := w.own()
	for range 10 {
		if w.mustImage(name) || w.r.Intn(8) == 0 {
			break
		}
		name = w.own()
	}
	return name
}

// boxThere is a container of one's own that most often has to be there. There is one at least.
func (w *worker) boxThere() string {
	box := w.boxes[w.r.Intn(len(w.boxes))]
	for range 10 {
		if w.mustBox(box) || w.r.Intn(8) == 0 {
			break
		}
		box = w.boxes[w.r.Intn(len(w.boxes))]
	}
	return box
}

// any is a name that all give to something, or one that all pull.
func (w *worker) any() string {
	if w.r.Intn(3) == 0 {
		return w.public(w.r.Intn(public))
	}
	return w.shared(w.r.Intn(4))
}

// say runs a command. What it may say besides being done is what kind allows; with that, or killed, it is not ok. Killed, or on
// a full disk, its exit code is -1.
func (w *worker) say(kind string, args ...string) (r result, ok bool) {
	w.t.Helper()
	w.count(kind)
	if w.kills && w.r.Intn(4) == 0 {
		return w.killedSoon(kind, args)
	}
	r = w.store.run(w.t, args...)
	if r.code == 0 {
		return r, true
	}
	if w.judge(kind, r); w.full(r) {
		r.code = -1
	}
	return r, false
}

// full tells whether a command failed because the disk is full: what became of what it did is not known then.
func (w *worker) full(r result) bool { return w.fills && noSpace.MatchString(r.stderr) }

// judge fails where a command says what it has no reason to.
func (w *worker) judge(kind string, r result) {
	w.t.Helper()
	if w.full(r) {
		w.count(kind + ": the disk is full")
		return
	}
	found := false
	for line := range strings.Lines(r.stderr) {
		text, isError := strings.CutPrefix(strings.TrimSpace(line), "error: ")
		if !isError {
			continue
		}
		found = true
		if why := reason(kind, text); why != "" {
			w.count(kind + ": " + why)
		} else {
			w.t.Errorf("worker %d: %q is not expected of %s: %v", w.n, text, kind, r)
		}
	}
	if !found {
		w.t.Errorf("worker %d: no error is told: %v", w.n, r)
	}
}

// noSpace is how a command ends on a disk that is full, or a step of a build, whose output is not shown.
var noSpace = regexp.MustCompile(`(?i)no space left|507 Insufficient Storage|did not complete successfully`)

func (c *crowd) count(what string) {
	c.counts.Lock()
	defer c.counts.Unlock()
	c.saw[what]++
}

// killedSoon runs a command and kills it at a random moment, if it has not ended by then. Its exit code is -1 then.
func (w *worker) killedSoon(kind string, args []string) (result, bool) {
	w.t.Helper()
	cmd := w.cmd(args...)
	var stdout, stderr lockedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		w.t.Error(err)
		return result{code: -1}, false
	}
	// Some right at the beginning, most while they are at it.
	timer := time.AfterFunc(time.Duration(w.r.ExpFloat64()*float64(120*time.Millisecond)), func() { cmd.Process.Kill() })
	cmd.Wait()
	timer.Stop()
	r := result{args: args, code: cmd.ProcessState.ExitCode(), pid: cmd.ProcessState.Pid(), stdout: stdout.String(), stderr: stderr.String()}
	switch {
	case r.code < 0:
		w.count("killed")
	case r.code > 0:
		w.judge(kind, r)
	}
	return r, r.code == 0
}
