package e2e

import (
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
)

// crowdSize is how many processes are at work on one store at any time.
const crowdSize = 8

// TestCrowd: eight processes build, pull, push, tag, remove, run, save and prune on one store. Nothing is lost that somebody
// had been told was done, nothing is left behind, and nobody is told of an error that has no reason.
func TestCrowd(t *testing.T) { newCrowd(t).run(t) }

// TestCrowdKilled is TestCrowd with commands, and those who watch containers, killed at random moments.
func TestCrowdKilled(t *testing.T) {
	c := newCrowd(t)
	c.kills = true
	c.run(t)
}

// crowd is what all workers share.
type crowd struct {
	*store
	*model
	registry string // where all push to and pull from
	kills    bool

	counts sync.Mutex
	saw    map[string]int // what was done and said
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

func newCrowd(t *testing.T) *crowd {
	s := newBusybox(t)
	folder := &store{root: filepath.Join(t.TempDir(), "registry")}
	c := &crowd{store: s, model: newModel(), saw: map[string]int{}}
	srv := s.serveFolder(t, folder)
	c.registry = srv.addr
	// What is used all the time is not removed by anybody.
	s.ok(t, "run", "-d", "--name", "holder", "--network", "none", "busybox", "sleep", "1000000")
	for i := range public {
		name := c.public(i)
		files := map[string]string{"Dockerfile": "FROM busybox\nCOPY all /all\nCOPY big /big\nCMD [\"cat\", \"/name\"]\nCOPY name /name\n",
			"all": random(7, 1<<20), "big": random(int64(i), 3<<20), "name": name}
		s.build(t, name, writeFiles(t, files))
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
	var wg sync.WaitGroup
	for i := range crowdSize {
		w := &worker{crowd: c, t: t, n: i, r: rand.New(rand.NewSource(seed + int64(i))), dir: t.TempDir(), pushed: map[string]string{}}
		wg.Go(w.work)
	}
	wg.Wait()
	for _, what := range slices.Sorted(maps.Keys(c.saw)) {
		t.Logf("%5d %s", c.saw[what], what)
	}
	c.wantAll(t)
	c.wantNothingElse(t)
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
}

// wantNothingElse removes everything and looks for what is left.
func (c *crowd) wantNothingElse(t *testing.T) {
	t.Helper()
	if ids := strings.Fields(c.ok(t, "ps", "-aq")); len(ids) > 0 {
		c.ok(t, append([]string{"rm", "-f"}, ids...)...)
	}
	c.ok(t, "system", "prune", "-a", "-f", "--volumes")
	c.ok(t, "builder", "prune", "-a", "-f")
	c.check(t)
	c.left(t, traces{})
	for _, dir := range []string{"blobs/sha256", "layers", "trees", "partial", "contexts", "cachedirs"} {
		if names, _ := os.ReadDir(filepath.Join(c.root, dir)); len(names) > 0 {
			t.Errorf("%s is left with %d entries, such as %s", dir, len(names), names[0].Name())
		}
	}
	if out := c.ok(t, "system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Size}}"); regexp.MustCompile(`(?m) [1-9]\d* | [^0]\S*$`).MatchString(out) {
		t.Errorf("system df has\n%s", out)
	}
}

// worker is one of the crowd: it runs one command after the other.
type worker struct {
	*crowd
	t      *testing.T
	n      int // which
	r      *rand.Rand
	dir    string
	serial int
	pushed map[string]string // names this worker has pushed, to IDs
	boxes  []string          // containers it has made
}

func (w *worker) work() {
	total := 0
	for _, o := range ops {
		total += o.weight
	}
	for range pick(30, 1500) {
		if w.t.Failed() {
			return
		}
		n := w.r.Intn(total)
		for _, o := range ops {
			if n -= o.weight; n < 0 {
				o.do(w)
				break
			}
		}
	}
}

// own is a name that this worker alone gives.
func (w *worker) own() string { return fmt.Sprintf("%s/w%d/x:%d", w.registry, w.n, w.r.Intn(4)) }

// any is a name that all give to something, or one that all pull.
func (w *worker) any() string {
	if w.r.Intn(3) == 0 {
		return w.public(w.r.Intn(public))
	}
	return w.shared(w.r.Intn(4))
}

// say runs a command. What it may say besides being done is what kind allows; with that, or killed, it is not ok.
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
	w.judge(kind, r)
	return r, false
}

// judge fails where a command says what it has no reason to.
func (w *worker) judge(kind string, r result) {
	w.t.Helper()
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
