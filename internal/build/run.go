package build

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"

	"nacre/internal/cache"
	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/network"
	"nacre/internal/registry"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExitError is a RUN step whose program failed.
type ExitError struct {
	Args []string
	Code int
	Tail string // the end of what it printed
	// OOMKilled tells that the kernel ended some process of it at the limit of Limits.Memory.
	OOMKilled bool
	Foreign   string // the platform of its program, which this machine cannot run; else empty
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("process %q did not complete successfully: exit code: %d", strings.Join(e.Args, " "), e.Code)
	if e.OOMKilled {
		text += ": it reached its memory limit"
	}
	if e.Foreign != "" {
		text += ": it is for " + e.Foreign + ", and this machine cannot run it"
	}
	return text
}

// run executes a RUN step: the root below it mounted with a writable side, the
// program in a sandbox on it, the writable side made into a layer.
func (w *work) run(ctx context.Context, op *graph.Run) (cache.Output, error) {
	if w.NoRun != "" {
		return cache.Output{}, &NoRunError{w.NoRun}
	}
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return cache.Output{}, ctx.Err()
	}
	if w.Chroot {
		return w.runInTree(ctx, op)
	}
	lower, err := w.lower(ctx)
	if err != nil {
		return cache.Output{}, err
	}
	if lower == nil {
		lower = rootfs.NewFS()
	}
	net, release, err := w.network(ctx, op)
	if err != nil {
		return cache.Output{}, err
	}
	config, err := w.config(op, lower, net)
	if err != nil {
		return cache.Output{}, err
	}
	sandbox.Warm(config.Spec) // its start and the mounts do not wait for each other
	if config.Root, err = w.mount(ctx, lower); err != nil {
		return cache.Output{}, err
	}
	held := len(w.temp)
	if err := w.mounts(ctx, op, &config); err != nil {
		return cache.Output{}, err
	}
	status, err := w.sandbox(ctx, op, config)
	if _, exit := errors.AsType[*ExitError](err); exit {
		w.failed = &config
	}
	if err != nil {
		return cache.Output{}, err
	}
	release()
	w.undo(held) // caches that others wait for, among the rest
	changes := rootfs.Changes(ctx, config.Root, lower, rootfs.ChangesOptions{
		Skip:  status.Created,
		Owner: status.Owner, Recorded: status.Recorded,
		Consume: true,
		Note:    func(text string) { w.Sink(event.Warning{Pos: w.step.Pos, Text: text}) },
	})
	if out, ok, err := w.nothingChanged(ctx, config.Root, changes); ok || err != nil {
		w.scratch.clean = w.scratch.unused(config.Root)
		return out, err
	}
	return w.layer(ctx, changes)
}

// nothingChanged gives the layer of a step that left its root as it was, if this build has made such
// a layer before: there is only one.
func (w *work) nothingChanged(ctx context.Context, m rootfs.Mount, changes iter.Seq2[layer.File, error]) (cache.Output, bool, error) {
	info := w.nothing.Load()
	if info == nil || m.Upper == "" {
		return cache.Output{}, false, nil
	}
	if names, err := os.ReadDir(m.Upper); err != nil || len(names) > 0 {
		return cache.Output{}, false, nil // whoever reads the changes meets the error again
	}
	for range changes {
		return cache.Output{}, false, nil // the root itself
	}
	err := w.layers.Hold(ctx, info.DiffID)
	if errors.Is(err, registry.ErrAbsent) {
		return cache.Output{}, false, nil
	}
	return w.output(*info), err == nil, err
}

// mount puts together the writable root of a step in a folder of its own.
func (w *work) mount(ctx context.Context, lower *rootfs.FS) (m rootfs.Mount, err error) {
	var layers []digest.Digest
	if p := w.parent(); p != nil {
		layers = p.layers
	}
	if w.scratch, err = w.takeScratch(lower); err != nil {
		return m, err
	}
	w.temp = append(w.temp, func() { w.giveScratch(w.scratch) })
	return w.prepareIn(ctx, w.scratch.dir, layers, false)
}

// prepare puts layers together as a root in a folder that goes when the step ends.
func (w *work) prepare(ctx context.Context, layers []digest.Digest, readonly bool) (rootfs.Mount, error) {
	dir, remove, err := w.Store.TempDir("run")
	if err != nil {
		return rootfs.Mount{}, err
	}
	w.temp = append(w.temp, remove)
	return w.prepareIn(ctx, dir, layers, readonly)
}

// prepareIn puts layers together as a root in a folder of the caller's.
func (w *work) prepareIn(ctx context.Context, dir string, layers []digest.Digest, readonly bool) (rootfs.Mount, error) {
	if err := w.layers.Need(ctx, layers...); err != nil {
		return rootfs.Mount{}, err
	}
	form, err := rootfs.Probe(w.Store.Root())
	if err != nil {
		return rootfs.Mount{}, err
	}
	return rootfs.Prepare(ctx, w.reader(), form, layers, dir, readonly)
}

// sandbox runs the program. Its exit code other than 0 is an *ExitError.
func (w *work) sandbox(ctx context.Context, op *graph.Run, config sandbox.Config) (sandbox.Status, error) {
	end := &tail{}
	stdout := &logger{sink: w.Sink, clock: w.Clock, id: w.eventStep(w.step).ID, stream: 1, tail: end, hidden: w.hidden}
	stderr := &logger{sink: w.Sink, clock: w.Clock, id: w.eventStep(w.step).ID, stream: 2, tail: end, hidden: w.hidden}
	config.Stdout, config.Stderr = stdout, stderr
	config.Again = w.runs.Load() > 0
	status, err := sandbox.Run(ctx, config)
	var start *sandbox.StartError
	if ctx.Err() == nil && errors.As(err, &start) && start.Code != sandbox.CodeSandbox {
		fmt.Fprintln(stderr, start) // the exit code alone does not say what was not found
	}
	stdout.flush()
	stderr.flush()
	if ctx.Err() != nil {
		return status, ctx.Err()
	}
	if start != nil && start.Code != sandbox.CodeSandbox {
		return status, w.notStarted(op, start)
	}
	if err != nil {
		return status, err
	}
	for _, text := range status.Warnings {
		w.Sink(event.Warning{Pos: w.step.Pos, Text: text})
	}
	if status.Code != 0 {
		return status, &ExitError{Args: op.Args, Code: status.Code, Tail: end.String(), OOMKilled: status.OOMKilled}
	}
	return status, nil
}

// notStarted is the error of a program that could not be executed.
func (w *work) notStarted(op *graph.Run, start *sandbox.StartError) error {
	exit := &ExitError{Args: op.Args, Code: start.Code, Tail: start.Error()}
	if errors.Is(start, unix.ENOEXEC) {
		exit.Foreign = op.Foreign
	}
	return exit
}

// config is all of a step's sandbox but its root and streams.
func (w *work) config(op *graph.Run, lower *rootfs.FS, net *network.Network) (sandbox.Config, error) {
	user, err := rootfs.LookupUser(lower, op.User)
	if err != nil {
		return sandbox.Config{}, err
	}
	files, err := w.runFiles(op, net)
	if err != nil {
		return sandbox.Config{}, err
	}
	spec := sandbox.DefaultSpec(sandbox.SpecOptions{
		Args: op.Args, Env: runEnv(op, user), Cwd: op.Dir, User: specUser(user),
		Hostname:    runHostname,
		HostNetwork: op.Network != network.ModeNone && net == nil,
		ShmSize:     w.o.Limits.ShmSize,
	})
	if net != nil {
		net.Apply(spec)
	}
	w.o.Limits.apply(spec)
	if err := w.addDevices(spec); err != nil {
		return sandbox.Config{}, err
	}
	if op.Insecure { // after devices, whose rules it opens
		err = insecure(spec)
	}
	return sandbox.Config{Spec: spec, Files: files}, err
}

// runEnv is the step's environment; HOME comes from the user, as docker has it.
func runEnv(op *graph.Run, user rootfs.User) []string {
	env := append(append([]string(nil), op.Env...), op.Proxy...)
	for _, e := range env {
		if strings.HasPrefix(e, "HOME=") {
			return env
		}
	}
	home := user.Home
	if home == "" {
		home = "/"
	}
	return append(env, "HOME="+home)
}

func specUser(u rootfs.User) specs.User {
	s := specs.User{UID: uint32(u.UID), GID: uint32(u.GID)}
	// The primary group among them: see CVE-2022-36109, as docker and BuildKit have it.
	s.AdditionalGids = append(s.AdditionalGids, uint32(u.GID))
	for _, g := range u.Groups {
		if g != u.GID {
			s.AdditionalGids = append(s.AdditionalGids, uint32(g))
		}
	}
	return s
}

// runFiles are the files that are there while the step runs and no longer after.
func (w *work) runFiles(op *graph.Run, net *network.Network) ([]sandbox.File, error) {
	h := network.HostsFile{Hostname: runHostname, Extra: w.o.Hosts}
	resolv := network.ResolvConf
	if net != nil {
		h.Gateway, resolv = net.Gateway(), net.Resolv
	}
	hosts, err := h.Bytes()
	if err != nil {
		return nil, err
	}
	files := []sandbox.File{
		{Path: "/etc/hosts", Data: hosts, Writable: true},
		{Path: "/etc/resolv.conf", Data: resolv(), Writable: true},
	}
	for _, f := range op.Files {
		files = append(files, sandbox.File{Path: f.Path, Data: f.Data, Mode: 0o755})
	}
	return files, nil
}
