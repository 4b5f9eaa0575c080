package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"nacre/internal/container"
	"nacre/internal/network"
	"nacre/internal/sandbox"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// confineFlags are those of run and create that give a container more, or less, than every container has.
type confineFlags struct {
	privileged                          bool
	add, drop, options                  []string
	devices, rules, groups, sysctls     []string
	gpus, ipc, pid, uts, cgroupns, mask string
	runtime                             string
}

func (f *confineFlags) register(fl *pflag.FlagSet) {
	listVar(fl, &f.options, "security-opt", "", "no-new-privileges, seccomp=FILE or seccomp=unconfined, systempaths=unconfined, writable-cgroups=true")
	fl.BoolVar(&f.privileged, "privileged", false, "give it every capability and device, and hide nothing from it: it can do what root can on this machine")
	listVar(fl, &f.add, "cap-add", "", "capability to have, such as NET_ADMIN, or ALL")
	listVar(fl, &f.drop, "cap-drop", "", "capability not to have, or ALL")
	listVar(fl, &f.devices, "device", "", "HOST[:CONTAINER][:rwm], a device node or a folder of them; or the name of a CDI device, such as vendor.com/gpu=0")
	listVar(fl, &f.rules, "device-cgroup-rule", "", `devices whose nodes it may make and use, such as "c 10:* rwm"`)
	fl.StringVar(&f.gpus, "gpus", "", "all, or device=0,1: GPUs that the machine's CDI specs name nvidia.com/gpu")
	listVar(fl, &f.groups, "group-add", "", "further group of the process, a name or a number")
	listVar(fl, &f.sysctls, "sysctl", "", "NAME=VALUE: kernel setting of the container's own namespaces")
	fl.StringVar(&f.ipc, "ipc", "", "private, shareable, none, host, or container:NAME: whose shared memory it has (default private)")
	fl.StringVar(&f.pid, "pid", "", "host or container:NAME: whose processes it sees (default: its own)")
	fl.StringVar(&f.uts, "uts", "", "host: have the machine's host name (default: its own)")
	fl.StringVar(&f.cgroupns, "cgroupns", "", "private or host: whether it sees the machine's cgroups (default private)")
	fl.StringVar(&f.mask, "umask", "", "mode bits that new files do not have, such as 0027 (default 0022)")
	fl.StringVar(&f.runtime, "runtime", os.Getenv("NACRE_RUNTIME"), "OCI runtime that runs it, such as crun, runc, runsc or a path (default: nacre itself, or NACRE_RUNTIME)")
}

func (f *confineFlags) apply(cfg *container.Config) error {
	s := &cfg.Security
	s.Privileged, s.Groups, s.DeviceRules, s.Options, s.Runtime = f.privileged, f.groups, f.rules, f.options, f.runtime
	if s.Runtime == "nacre" {
		s.Runtime = ""
	}
	for _, apply := range []func(*container.Config) error{f.applyCaps, f.applyOptions, f.applyDevices, f.applyModes, f.applySysctls, f.applyUmask} {
		if err := apply(cfg); err != nil {
			return err
		}
	}
	return nil
}

func (f *confineFlags) applyCaps(cfg *container.Config) error {
	for _, list := range []struct {
		flag string
		from []string
		to   *[]string
	}{{"cap-add", f.add, &cfg.Security.CapAdd}, {"cap-drop", f.drop, &cfg.Security.CapDrop}} {
		for _, name := range list.from {
			for one := range strings.SplitSeq(name, ",") {
				c, err := container.NormalizeCap(one)
				if err != nil {
					return fmt.Errorf("--%s: %w", list.flag, err)
				}
				*list.to = append(*list.to, c)
			}
		}
	}
	return nil
}

// applyOptions takes the options that hold here, or can; others would be passed over.
func (f *confineFlags) applyOptions(cfg *container.Config) error {
	for _, o := range f.options {
		key, value, has := o, "", false
		if i := strings.IndexAny(o, "=:"); i >= 0 {
			key, value, has = o[:i], o[i+1:], true
		}
		if err := f.option(&cfg.Security, key, value, has); err != nil {
			return fmt.Errorf("--security-opt %s: %w", o, err)
		}
	}
	return nil
}

var errSecurityOption = errors.New("not supported; want no-new-privileges, seccomp=FILE, seccomp=unconfined, systempaths=unconfined or writable-cgroups=true")

func (f *confineFlags) option(s *container.Security, key, value string, has bool) (err error) {
	truth := func(to *bool) error {
		*to = true
		if has {
			*to, err = strconv.ParseBool(value)
		}
		if err != nil {
			return errors.New("want true or false")
		}
		return nil
	}
	switch key {
	case "no-new-privileges":
		return truth(&s.NoNewPrivileges)
	case "writable-cgroups":
		return truth(&s.WritableCgroups)
	case "systempaths":
		if value == "unconfined" {
			s.OpenPaths = true
			return nil
		}
	case "seccomp":
		return f.profile(s, value)
	case "apparmor":
		if value == "unconfined" {
			return nil // it is
		}
		return errors.New("AppArmor profiles are not supported")
	case "label":
		if value == "disable" {
			return nil // there are none
		}
		return errors.New("SELinux labels are not supported")
	}
	return errSecurityOption
}

// profile reads a seccomp profile, and tells what is wrong with it now rather than at the start.
func (f *confineFlags) profile(s *container.Security, name string) error {
	switch name {
	case "":
		return errSecurityOption
	case "builtin":
		s.Seccomp = ""
		return nil
	case container.SeccompUnconfined:
		s.Seccomp = name
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if _, err := sandbox.LoadSeccomp(string(text), &specs.LinuxCapabilities{Bounding: sandbox.DefaultCapabilities()}); err != nil {
		return err
	}
	s.Seccomp = string(text)
	return nil
}

func (f *confineFlags) applyDevices(cfg *container.Config) error {
	s := &cfg.Security
	for _, text := range f.devices {
		if parser.IsQualifiedName(text) {
			s.CDI = append(s.CDI, text)
			continue
		}
		d, err := container.ParseDevice(text)
		if err != nil {
			return fmt.Errorf("--device %s: %w", text, err)
		}
		s.Devices = append(s.Devices, d)
	}
	for _, text := range f.rules {
		if _, err := container.ParseDeviceRule(text); err != nil {
			return fmt.Errorf("--device-cgroup-rule %s: %w", text, err)
		}
	}
	if f.gpus == "" {
		return nil
	}
	list, ok := strings.CutPrefix(strings.Trim(f.gpus, `"`), "device=")
	if !ok && f.gpus != "all" {
		return fmt.Errorf("--gpus %s: want all, or device=NAME,NAME", f.gpus)
	}
	if f.gpus == "all" {
		list = "all"
	}
	for name := range strings.SplitSeq(list, ",") {
		s.CDI = append(s.CDI, "nvidia.com/gpu="+name)
	}
	return nil
}

// applyModes says whose namespaces the container has.
func (f *confineFlags) applyModes(cfg *container.Config) error {
	s := &cfg.Security
	for _, m := range []struct {
		flag, value string
		to          *string
		allowed     []string
	}{
		{"ipc", f.ipc, &s.IPC, []string{container.ModePrivate, container.ModeShareable, container.ModeNone, container.ModeHost, container.ModeContainer}},
		{"pid", f.pid, &s.PID, []string{container.ModePrivate, container.ModeHost, container.ModeContainer}},
		{"uts", f.uts, &s.UTS, []string{container.ModePrivate, container.ModeHost}},
		{"cgroupns", f.cgroupns, &s.Cgroupns, []string{container.ModePrivate, container.ModeHost}},
	} {
		ok := m.value == ""
		for _, a := range m.allowed {
			rest, prefix := strings.CutPrefix(m.value, container.ModeContainer)
			ok = ok || m.value == a || a == container.ModeContainer && prefix && rest != ""
		}
		if !ok {
			return fmt.Errorf("--%s=%s: want %s", m.flag, m.value, strings.Join(m.allowed, ", "))
		}
		if m.value != container.ModePrivate {
			*m.to = m.value
		}
	}
	if s.UTS == container.ModeHost && cfg.Hostname != "" {
		return errors.New("conflicting options: hostname and the UTS mode") // docker's words
	}
	return nil
}

func (f *confineFlags) applySysctls(cfg *container.Config) error {
	for _, text := range f.sysctls {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return fmt.Errorf("--sysctl %s: want NAME=VALUE", text)
		}
		kind, err := container.SysctlNamespace(key)
		if err != nil {
			return err
		}
		if kind == specs.NetworkNamespace && cfg.Network.Mode == network.ModeHost || kind == specs.IPCNamespace && cfg.Security.IPC == container.ModeHost {
			return fmt.Errorf("--sysctl %s: the container shares this machine's %s, so it would be set for all", key, kind)
		}
		if cfg.Security.Sysctls == nil {
			cfg.Security.Sysctls = map[string]string{}
		}
		cfg.Security.Sysctls[key] = value
	}
	return nil
}

func (f *confineFlags) applyUmask(cfg *container.Config) error {
	if f.mask == "" {
		return nil
	}
	n, err := strconv.ParseUint(f.mask, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("--umask=%s: want up to 0777, octal", f.mask)
	}
	m := uint32(n)
	cfg.Security.Umask = &m
	return nil
}
