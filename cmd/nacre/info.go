package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"nacre/internal/isolation"
	"nacre/internal/registry/store"
	"nacre/internal/rootfs"
	"nacre/internal/sandbox"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// info is what `info` shows; the names of fields are docker's where it has them.
type info struct {
	ServerVersion   string
	DockerRootDir   string
	Driver          string // how layers are mounted: index or trees
	Containers      int
	Images          int
	Name            string
	KernelVersion   string
	OperatingSystem string
	OSType          string
	Architecture    string
	NCPU            int
	MemTotal        uint64
	CgroupVersion   string
	CgroupDriver    string
	// Controllers that limits can be set with.
	CgroupControllers []string
	SecurityOptions   []string
	Isolation         isolation.Choice
	// Helpers are the programs found that are used where they are there.
	Helpers  map[string]string
	Warnings []string
}

func infoCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show where things are kept, and how programs are kept apart from this machine",
		Long: `Show where things are kept, what this machine can do, and how the programs of RUN and run
are kept apart from it: which way was chosen, and why better ones were not.`,
		Example: "  nacre info\n  nacre info --format '{{.Isolation.Kind}}'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			i, err := a.info(cmd)
			if err != nil {
				return err
			}
			if format != "" {
				return render(a.stdout, format, nil, []info{i})
			}
			_, err = fmt.Fprint(a.stdout, printable(i.String()))
			return err
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `"json" or a Go template`)
	isolationFlag(cmd.Flags())
	return cmd
}

func (a *app) info(cmd *cobra.Command) (info, error) {
	want, err := wantedIsolation(cmd.Flags())
	if err != nil {
		return info{}, err
	}
	choice, err := isolation.Choose(want)
	if err == nil {
		choice, err = choice.Tried(want)
	}
	if err != nil {
		return info{}, refusedHint(err)
	}
	i := info{
		ServerVersion: version, DockerRootDir: a.rootFolder(), OSType: runtime.GOOS, Architecture: machine(),
		OperatingSystem: operatingSystem(), NCPU: runtime.NumCPU(), Isolation: choice, CgroupDriver: "cgroupfs",
		SecurityOptions: []string{"name=seccomp,profile=builtin"}, Helpers: helpers(),
	}
	i.Name, _ = os.Hostname()
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		i.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err == nil {
		i.MemTotal = uint64(s.Totalram) * uint64(s.Unit)
	}
	if choice.UID != 0 {
		i.SecurityOptions = append(i.SecurityOptions, "name=rootless")
	}
	i.addCgroups()
	return i, a.addStore(cmd.Context(), &i)
}

// addCgroups adds what limits can be set with.
func (i *info) addCgroups() {
	n, controllers, err := sandbox.Cgroups()
	if n > 0 {
		i.CgroupVersion = fmt.Sprint(n)
	}
	i.CgroupControllers = controllers
	if err != nil {
		i.Warnings = append(i.Warnings, "limits of memory, processors and processes have no effect: "+err.Error())
	}
}

// addStore counts what is in the store, if there is one.
func (a *app) addStore(ctx context.Context, i *info) error {
	i.Driver = rootfs.Trees.String()
	if _, err := os.Stat(filepath.Join(i.DockerRootDir, "nacre.db")); err != nil {
		i.Driver = ""
		return nil
	}
	s, err := store.Open(ctx, i.DockerRootDir, store.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	a.opened = s
	if i.Isolation.Kind == isolation.Root {
		form, err := rootfs.Probe(s.Root())
		if err != nil {
			return err
		}
		i.Driver = form.String()
	}
	for _, err := range s.Images(ctx) {
		if err != nil {
			return err
		}
		i.Images++
	}
	rows, err := s.Containers(ctx)
	i.Containers = len(rows)
	return err
}

// helpers finds the programs that are used where they are there.
func helpers() map[string]string {
	found := map[string]string{}
	for _, name := range []string{"newuidmap", "newgidmap", "pasta", "git", "ssh", "nft", "iptables", "crun", "runc", "runsc"} {
		if path, err := exec.LookPath(name); err == nil {
			found[name] = path
		}
	}
	return found
}

// operatingSystem is the name that os-release(5) gives.
func operatingSystem() string {
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
				return strings.Trim(name, `"'`)
			}
		}
	}
	return runtime.GOOS
}

// machine is the architecture as uname(2) calls it, which is what docker shows.
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// String is the text for people.
func (i info) String() string {
	var b strings.Builder
	line := func(indent, name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, name, text)
		}
	}
	line("", "Version", "%s", i.ServerVersion)
	line("", "Root Dir", "%s", i.DockerRootDir)
	line("", "Layers", "%s", i.Driver)
	line("", "Containers", "%d", i.Containers)
	line("", "Images", "%d", i.Images)
	line("", "Isolation", "%s", i.Isolation.Kind)
	line(" ", "Why", "%s", i.Isolation.Why)
	for _, r := range i.Isolation.Refused {
		line(" ", "Not "+string(r.Kind), "%s", r.Why)
		line("  ", "Hint", "%s", r.Hint)
	}
	line(" ", "User", "%d:%d", i.Isolation.UID, i.Isolation.GID)
	line(" ", "Subordinate UIDs", "%s", ranges(i.Isolation.UIDs))
	line(" ", "Subordinate GIDs", "%s", ranges(i.Isolation.GIDs))
	line("", "Cgroup Version", "%s", i.CgroupVersion)
	line(" ", "Controllers", "%s", strings.Join(i.CgroupControllers, " "))
	line("", "Helpers", "%s", i.helperList())
	line("", "Security Options", "%s", strings.Join(i.SecurityOptions, " "))
	line("", "Kernel Version", "%s", i.KernelVersion)
	line("", "Operating System", "%s", i.OperatingSystem)
	line("", "OSType", "%s", i.OSType)
	line("", "Architecture", "%s", i.Architecture)
	line("", "CPUs", "%d", i.NCPU)
	line("", "Total Memory", "%s", units.BytesSize(float64(i.MemTotal)))
	line("", "Name", "%s", i.Name)
	for _, w := range i.Warnings {
		line("", "Warning", "%s", w)
	}
	return b.String()
}

func ranges(list []isolation.Range) string {
	words := make([]string, len(list))
	for i, r := range list {
		words[i] = r.String()
	}
	return strings.Join(words, " ")
}

func (i info) helperList() string {
	var list []string
	for _, name := range []string{"newuidmap", "newgidmap", "pasta", "git", "ssh", "nft", "iptables", "crun", "runc", "runsc"} {
		if path := i.Helpers[name]; path != "" {
			list = append(list, path)
		}
	}
	return strings.Join(list, " ")
}
