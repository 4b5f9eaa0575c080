package container

import (
	"time"

	"nacre/internal/network"
	"nacre/internal/volume"

	"github.com/opencontainers/go-digest"
)

// Config is what a container was asked to be. It changes by Update alone, but for the name, which is the store's
// (Container.Name); as JSON it is the file container.json.
type Config struct {
	// Image is the image's name as the user wrote it; ImageID its config; Target the manifest, or the index that
	// it is of; Layers its diffIDs, bottom first.
	Image    string          `json:"image"`
	ImageID  digest.Digest   `json:"imageID"`
	Target   digest.Digest   `json:"target"`
	Platform string          `json:"platform,omitempty"`
	Layers   []digest.Digest `json:"layers,omitempty"`

	// Entrypoint and Command together are what is executed.
	Entrypoint []string `json:"entrypoint,omitempty"`
	Command    []string `json:"command,omitempty"`
	Env        []string `json:"env,omitempty"` // the image's and the user's; what every container has comes before these
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"`
	Hostname   string   `json:"hostname,omitempty"` // empty: the beginning of the ID
	Domainname string   `json:"domainname,omitempty"`

	Labels       map[string]string   `json:"labels,omitempty"`      // the image's and the user's
	Annotations  map[string]string   `json:"annotations,omitempty"` // of the runtime spec
	Exposed      map[string]struct{} `json:"exposed,omitempty"`     // EXPOSE of the image: "80/tcp"
	ImageVolumes map[string]struct{} `json:"imageVolumes,omitempty"`

	TTY        bool `json:"tty,omitempty"`
	OpenStdin  bool `json:"openStdin,omitempty"`
	StdinOnce  bool `json:"stdinOnce,omitempty"` // standard input ends with the first who was attached to it
	Init       bool `json:"init,omitempty"`
	AutoRemove bool `json:"autoRemove,omitempty"`
	ReadOnly   bool `json:"readOnly,omitempty"`

	// Attached are the streams ("stdin", "stdout", "stderr") that whoever made it was going to be attached to.
	Attached []string `json:"attached,omitempty"`

	StopSignal  string        `json:"stopSignal,omitempty"`  // empty: SIGTERM
	StopTimeout *int          `json:"stopTimeout,omitempty"` // seconds; nil: 10; below zero: for ever
	Restart     RestartPolicy `json:"restart,omitzero"`
	Health      *Health       `json:"health,omitempty"` // nil: there is no health check
	Log         LogConfig     `json:"log,omitzero"`

	Mounts []volume.Mount `json:"mounts,omitempty"`
	// VolumesFrom are the containers, by name or ID, that some of Mounts are of.
	VolumesFrom []string `json:"volumesFrom,omitempty"`

	Network   network.Options `json:"network,omitzero"`
	Security  Security        `json:"security,omitzero"`
	Resources Resources       `json:"resources,omitzero"`
}

// Args is what is executed.
func (c *Config) Args() []string {
	return append(append([]string(nil), c.Entrypoint...), c.Command...)
}

// RestartPolicy says when a container whose process has ended is started again, while its monitor lives.
type RestartPolicy struct {
	Name string `json:"name,omitempty"` // RestartNo, …; empty is RestartNo
	Max  int    `json:"max,omitempty"`  // of RestartOnFailure: how often; 0 is without end
}

// Names of restart policies.
const (
	RestartNo            = "no"
	RestartAlways        = "always"
	RestartUnlessStopped = "unless-stopped"
	RestartOnFailure     = "on-failure"
)

// None tells whether the container is never started again by itself.
func (p RestartPolicy) None() bool { return p.Name == "" || p.Name == RestartNo }

// Health is how to find out whether a container is well. Zeros stand for docker's defaults.
type Health struct {
	Test          []string      `json:"test"` // CMD, ARG…, or CMD-SHELL, LINE
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`
	StartInterval time.Duration `json:"startInterval,omitempty"`
	Retries       int           `json:"retries,omitempty"`
	// Shell is what runs CMD-SHELL: the image's SHELL; empty is /bin/sh -c.
	Shell []string `json:"shell,omitempty"`
}

// LogConfig is how much of the output is kept, and whether.
type LogConfig struct {
	Driver   string `json:"driver,omitempty"`  // empty or "json-file", or "none"
	MaxSize  int64  `json:"maxSize,omitempty"` // bytes of a file; 0: DefaultLogSize; below zero: no limit
	MaxFiles int    `json:"maxFiles,omitempty"`
	// Options are all that were given, as they were: of docker's names, and checked.
	Options map[string]string `json:"options,omitempty"`
}

// Security is how a container is confined, where that differs from the defaults.
type Security struct {
	Confinement
	NoNewPrivileges bool `json:"noNewPrivileges,omitempty"`
	// Userns is "auto" for a user namespace of the container's own.
	Userns string `json:"userns,omitempty"`
}

// Resources are the limits of a container; zeros are none.
type Resources struct {
	Memory            int64             `json:"memory,omitempty"` // bytes
	MemorySwap        int64             `json:"memorySwap,omitempty"`
	MemoryReservation int64             `json:"memoryReservation,omitempty"`
	CPUShares         uint64            `json:"cpuShares,omitempty"`
	CPUPeriod         uint64            `json:"cpuPeriod,omitempty"` // microseconds
	CPUQuota          int64             `json:"cpuQuota,omitempty"`
	CpusetCpus        string            `json:"cpusetCpus,omitempty"`
	CpusetMems        string            `json:"cpusetMems,omitempty"`
	PidsLimit         int64             `json:"pidsLimit,omitempty"` // below zero: none
	ShmSize           int64             `json:"shmSize,omitempty"`   // bytes; 0 is 64 MiB
	CgroupParent      string            `json:"cgroupParent,omitempty"`
	OOMScoreAdj       int               `json:"oomScoreAdj,omitempty"`
	OOMKillDisable    bool              `json:"oomKillDisable,omitempty"`
	Swappiness        *int64            `json:"swappiness,omitempty"`    // 0 to 100
	BlkioWeight       uint16            `json:"blkioWeight,omitempty"`   // 10 to 1000
	WeightDevices     []DeviceRate      `json:"weightDevices,omitempty"` // the same for one device; Rate is the weight
	ReadBps           []DeviceRate      `json:"readBps,omitempty"`       // bytes in a second
	WriteBps          []DeviceRate      `json:"writeBps,omitempty"`
	ReadIOps          []DeviceRate      `json:"readIOps,omitempty"` // operations in a second
	WriteIOps         []DeviceRate      `json:"writeIOps,omitempty"`
	Ulimits           map[string]Ulimit `json:"ulimits,omitempty"` // by name, such as nofile
}

// DeviceRate is how much of a block device may be used.
type DeviceRate struct {
	Path string `json:"path"`
	Rate uint64 `json:"rate"`
}

// Ulimit is a resource limit of a process; the largest number is no limit.
type Ulimit struct {
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}
