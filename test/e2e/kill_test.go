package e2e

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rounds is how many times a running command is killed in each of the tests below.
const rounds = 20

// killed starts a command and kills it after a time, with SIGKILL: nothing of it gets to
// tidy up. It tells whether the command had ended, well, by itself.
func (s *store) killed(t *testing.T, after time.Duration, args ...string) (finished bool) {
	t.Helper()
	cmd := s.cmd(args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	if err != nil && cmd.ProcessState.ExitCode() >= 0 {
		t.Fatalf("nacre %s was not killed, it failed: %v", strings.Join(args, " "), err)
	}
	return err == nil
}

// gone waits for the processes of a killed command to be gone too. Each of them has mark
// in its command line.
func gone(t *testing.T, mark string) {
	t.Helper()
	var left []string
	if !within(patience, func() bool { left = processes(mark); return len(left) == 0 }) {
		t.Fatalf("they outlive the builder:\n%s", strings.Join(left, "\n"))
	}
}

// whole asserts that nothing is wrong with the store and that every image that was there is.
func (s *store) whole(t *testing.T, ids map[string]string) {
	t.Helper()
	s.check(t)
	for name, id := range ids {
		if got := s.inspect(t, name, "{{.Id}}"); got != id {
			t.Errorf("%s is %s, was %s", name, got, id)
		}
		if tar := s.ok(t, "save", name); len(tar) < 1<<20 {
			t.Errorf("%s is saved in %d bytes", name, len(tar))
		}
	}
	if left := mounts(filepath.Dir(s.root)); len(left) > 0 {
		t.Errorf("mounts are left behind:\n%s", strings.Join(left, "\n"))
	}
}

func moments(t *testing.T, whole time.Duration) func() time.Duration {
	seed := time.Now().UnixNano()
	t.Logf("seed %d, of %v", seed, whole)
	r := rand.New(rand.NewSource(seed))
	return func() time.Duration { return time.Duration(r.Int63n(int64(whole) * 11 / 10)) }
}

// TestKillBuild kills builds at random moments. What was there before stays, what
// is half done is never taken for done, and the same build then succeeds.
func TestKillBuild(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	id := sample(t, s, "keep:1")
	mark := fmt.Sprintf("nacre-kill-%d", os.Getpid())
	files := map[string]string{"big": random(3, 2<<20), "Dockerfile": `FROM busybox AS one
ARG ROUND
COPY . /src
RUN echo ` + mark + ` $ROUND >/dev/null; for i in $(seq 1 300); do echo $ROUND $i > /f$i; done; cp /src/big /big2
FROM busybox AS two
ARG ROUND
RUN echo ` + mark + ` $ROUND >/dev/null; mkdir -p /d/e; cp /bin/busybox /d; for i in $(seq 1 40); do ln /d/busybox /d/e/$i; done; rm -r /bin/tac /home; sleep 0.1
FROM busybox
COPY --from=one / /one/
COPY --from=two /d /two/
RUN echo ` + mark + ` >/dev/null; cat /one/f* > /all
CMD ["sh", "-c", "wc -l < /all; cmp /one/src/big /one/big2 && ls /one/src/small | wc -l"]
`}
	for i := range 300 {
		files[fmt.Sprintf("small/%d", i)] = fmt.Sprint(i)
	}
	dir := writeFiles(t, files)
	build := func(round string) []string {
		return []string{"build", "-q", "-t", "victim:" + round, "--build-arg", "ROUND=" + round, dir}
	}
	begin := time.Now()
	s.ok(t, build("first")...)
	moment := moments(t, time.Since(begin))
	ids := map[string]string{"keep:1": id}
	for i := range rounds {
		round := fmt.Sprint(i)
		after := moment()
		os.WriteFile(filepath.Join(dir, "small/0"), []byte(round), 0o644)
		done := s.killed(t, after, build(round)...)
		gone(t, mark)
		if done { // it had said so: then it is so
			ids["victim:"+round] = s.inspect(t, "victim:"+round, "{{.Id}}")
		}
		if done || i%5 == 0 {
			s.whole(t, ids)
		} else {
			s.check(t)
		}
		s.ok(t, build(round)...)
		if got := s.ok(t, "run", "--rm", "--network", "none", "victim:"+round); got != "300\n300" {
			t.Fatalf("killed after %v and built again, it says %q", after, got)
		}
		delete(ids, "victim:"+round)
		s.ok(t, "rmi", "victim:"+round)
		s.ok(t, "builder", "prune", "-a", "-f") // what all rounds made would be checked in each
	}
	s.whole(t, ids)
	if left, _ := os.ReadDir(filepath.Join(s.root, "tmp")); len(left) > 2 {
		t.Errorf("the dead left %d things behind in tmp", len(left))
	}
}

// TestKillLoad does the same to load, and to import.
func TestKillLoad(t *testing.T) {
	t.Parallel()
	from := newBusybox(t)
	files := map[string]string{"Dockerfile": "FROM busybox\nCOPY big /big\nRUN cp /big /again; for i in $(seq 1 500); do echo $i > /f$i; done\nCMD [\"cmp\",\"/big\",\"/again\"]\n",
		"big": random(4, 4<<20)}
	from.build(t, "victim", writeFiles(t, files))
	id := from.inspect(t, "victim", "{{.Id}}")
	tar := filepath.Join(t.TempDir(), "a.tar")
	from.ok(t, "save", "-o", tar, "victim")
	compressed := tar + ".gz"
	tool(t, "sh", "-c", `gzip -1 < "$0" > "$1"`, tar, compressed)

	s := newBusybox(t)
	ids := map[string]string{"keep:1": sample(t, s, "keep:1")}
	begin := time.Now()
	s.ok(t, "load", "-i", compressed)
	moment := moments(t, time.Since(begin))
	forget := func() {
		s.ok(t, "rmi", "victim")
		s.ok(t, "image", "prune", "-f")
	}
	forget()
	for i := range rounds {
		input := []string{tar, compressed}[i%2]
		after := moment()
		done := s.killed(t, after, "load", "-q", "-i", input)
		if done && s.inspect(t, "victim", "{{.Id}}") != id {
			t.Fatal("load had said it was done")
		}
		if done || i%5 == 0 {
			s.whole(t, ids)
		} else {
			s.check(t)
		}
		s.ok(t, "load", "-q", "-i", input)
		if got := s.inspect(t, "victim", "{{.Id}}"); got != id {
			t.Fatalf("the image is %s, was %s", got, id)
		}
		s.ok(t, "run", "--rm", "--network", "none", "victim")
		forget()
	}
	s.whole(t, ids)
}

// TestKillRun: a container dies with the program that runs it, and leaves no mount.
func TestKillRun(t *testing.T) {
	t.Parallel()
	s := newBusybox(t)
	mark := fmt.Sprintf("7%d", os.Getpid()) // seconds to sleep, like no one else's
	srv := s.start(t, "run", "--rm", "--network", "none", "busybox", "sh", "-c", "sleep "+mark+" & sleep "+mark)
	until(t, "both to sleep", func() bool { return len(processes("sleep\x00"+mark)) == 2 })
	srv.cmd.Process.Kill()
	<-srv.waited
	gone(t, mark)
	s.whole(t, nil)
}
