package volume

// Point is a mount as docker's inspect shows it, in .Mounts.
type Point struct {
	Type        string
	Name        string `json:",omitempty"` // of a volume
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// Points are the mounts of a container for its inspect, in their order. Docker has what --tmpfs asks for elsewhere: see Tmpfs.
func (v *Volumes) Points(mounts []Mount) []Point {
	points := []Point{}
	for _, m := range mounts {
		if m.Flag == "tmpfs" {
			continue
		}
		p := Point{Type: m.Type, Source: m.Source, Destination: m.Target, Mode: m.Mode, RW: !m.ReadOnly, Propagation: m.Propagation}
		switch m.Type {
		case TypeVolume:
			p.Name, p.Source, p.Driver = m.Source, v.Mountpoint(m.Source), "local"
		case TypeBind:
			if p.Propagation == "" {
				p.Propagation = "rprivate"
			}
		}
		points = append(points, p)
	}
	return points
}

// Binds are docker's .HostConfig.Binds: what -v asked for, with paths made absolute.
func Binds(mounts []Mount) []string {
	var out []string
	for _, m := range mounts {
		if m.Flag != "volume" || m.Anonymous {
			continue
		}
		s := m.Source + ":" + m.Target
		if m.Mode != "" {
			s += ":" + m.Mode
		}
		out = append(out, s)
	}
	return out
}

// Tmpfs is docker's .HostConfig.Tmpfs: what --tmpfs asked for, options by path.
func Tmpfs(mounts []Mount) map[string]string {
	var out map[string]string
	for _, m := range mounts {
		if m.Flag == "tmpfs" {
			if out == nil {
				out = map[string]string{}
			}
			out[m.Target] = m.Mode
		}
	}
	return out
}

// HostMount is one of docker's .HostConfig.Mounts: what --mount asked for.
type HostMount struct {
	Type          string
	Source        string `json:",omitempty"`
	Target        string
	ReadOnly      bool           `json:",omitempty"`
	BindOptions   map[string]any `json:",omitempty"`
	VolumeOptions map[string]any `json:",omitempty"`
	ImageOptions  map[string]any `json:",omitempty"`
	TmpfsOptions  map[string]any `json:",omitempty"`
}

// HostMounts are docker's .HostConfig.Mounts.
func HostMounts(mounts []Mount) []HostMount {
	var out []HostMount
	for _, m := range mounts {
		if m.Flag != "mount" {
			continue
		}
		h := HostMount{Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
		if m.Anonymous {
			h.Source = ""
		}
		switch m.Type {
		case TypeBind:
			h.BindOptions = present(map[string]any{
				"Propagation": m.Propagation, "NonRecursive": m.Recursive == RecursiveDisabled, "CreateMountpoint": m.CreateSource,
				"ReadOnlyNonRecursive": m.Recursive == RecursiveWritable, "ReadOnlyForceRecursive": m.Recursive == RecursiveReadonly,
			})
		case TypeVolume:
			driver := present(map[string]any{"Name": m.Driver, "Options": m.Options})
			h.VolumeOptions = present(map[string]any{"NoCopy": m.NoCopy, "Labels": m.Labels, "Subpath": m.Subpath, "DriverConfig": driver})
		case TypeImage:
			h.ImageOptions = present(map[string]any{"Subpath": m.Subpath})
		case TypeTmpfs:
			h.TmpfsOptions = present(map[string]any{"SizeBytes": m.Size})
			if m.Perm != nil {
				if h.TmpfsOptions == nil {
					h.TmpfsOptions = map[string]any{}
				}
				h.TmpfsOptions["Mode"] = *m.Perm
			}
		}
		out = append(out, h)
	}
	return out
}

// present leaves out what was not asked for; nil if that is all.
func present(options map[string]any) map[string]any {
	for key, value := range options {
		switch value := value.(type) {
		case string:
			if value == "" {
				delete(options, key)
			}
		case bool:
			if !value {
				delete(options, key)
			}
		case int64:
			if value == 0 {
				delete(options, key)
			}
		case map[string]string:
			if len(value) == 0 {
				delete(options, key)
			}
		case map[string]any:
			if len(value) == 0 {
				delete(options, key)
			}
		}
	}
	if len(options) == 0 {
		return nil
	}
	return options
}
