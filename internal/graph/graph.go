// Package graph turns the stages of a Dockerfile into steps: what is to be done, on which
// input, with every variable expanded. It is pure: it reads no file, runs no
// program and asks the network nothing.
package graph

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
)

// Graph is the plan of one build for one platform.
type Graph struct {
	// Steps that the target needs, and no others; inputs come before what uses them.
	Steps  []*Step
	Target *Result
	// Stages that were left out because the target does not need them.
	Skipped  []string
	Warnings []Warning
	// Epoch is SOURCE_DATE_EPOCH: the time of everything built; nil: now.
	Epoch *time.Time
}

// Warning is advice about the Dockerfile.
type Warning struct {
	Rule string `json:"rule,omitempty"` // of docker's build checks ("JSONArgsRecommended"), or empty
	Pos  string `json:"pos,omitempty"`  // "Dockerfile:7", or empty
	Text string `json:"text"`
	URL  string `json:"url,omitempty"` // where the rule is explained, or empty
}

// Result is what a stage amounts to.
type Result struct {
	Stage string
	Last  *Step // the step whose root is the stage's root; nil: an empty root
	// Config is complete but for RootFS.DiffIDs, History and Created, which are
	// known when the steps are done.
	Config image.Config
	// BaseHistory is that of the base image, to be kept as is.
	BaseHistory []image.History
	History     []History // one per instruction of this stage (and of the stages it is FROM)
}

// History is an image history entry whose time comes from the step that made it.
type History struct {
	CreatedBy string // as BuildKit writes it: "RUN /bin/sh -c make # buildkit"
	Comment   string // "buildkit.dockerfile.v0" as docker's clients expect
	Step      *Step  // the step that makes the layer; nil: an empty_layer entry
}

// Step is one unit of work: an operation on a root.
type Step struct {
	ID    int    // index in Graph.Steps
	Stage string // stage name, or its number
	Pos   string // `Dockerfile:7`
	Name  string // `[builder 2/5] RUN make`
	// Parent is the step whose root this one works on; nil: an empty root.
	Parent *Step
	Op     Op
	// Setting is what a program would find at this place of the stage.
	Setting Setting
}

// Setting is what the instructions before a step say of programs. It is no part of what
// defines the step.
type Setting struct {
	Shell []string // SHELL; empty: docker's default
	Env   []string // NAME=value: ENV, then build arguments in scope
	Dir   string
	User  string
}

// Inputs are the steps whose roots are needed: Parent, and those an Op reads from.
func (s *Step) Inputs() []*Step {
	var in []*Step
	if s.Parent != nil {
		in = append(in, s.Parent)
	}
	if c, ok := s.Op.(*Copy); ok {
		if c.From != nil {
			in = append(in, c.From)
		}
		for _, r := range c.Remote {
			if r != nil {
				in = append(in, r)
			}
		}
	}
	if r, ok := s.Op.(*Run); ok {
		for _, m := range r.Mounts {
			if m.From != nil && !slices.Contains(in, m.From) {
				in = append(in, m.From)
			}
		}
	}
	return in
}

// Op is one of Base, Copy, Fetch, Run, Workdir.
type Op interface{ op() }

// Base is the root of an image that exists. It has no Parent.
type Base struct {
	Name   string // as written, normalized: docker.io/library/debian:12
	Digest digest.Digest
	// DiffIDs of its layers, bottom first.
	DiffIDs []digest.Digest
}

// Run executes a program in the root.
type Run struct {
	Args    []string // argv, the SHELL prefix included for the shell form
	Env     []string // NAME=value: the image's ENV, then build arguments in scope
	Scope   []string // names of the build arguments in scope, for messages
	Proxy   []string // the proxy arguments: in the environment, never in keys or history
	Dir     string
	User    string // "user[:group]" names or numbers, resolved in the root; empty is root
	Network string // "default", "none" or "host"
	// Insecure gives the program all capabilities and hides nothing from it.
	Insecure bool
	Mounts   []Mount
	Devices  []Device
	// Foreign is the platform of the root, where it is not the one that it runs on; else empty.
	Foreign string
	// Files are heredocs to be there while it runs, each mounted read-only at Path,
	// which is below /dev/pipes, with mode 0755.
	Files []InlineFile
}

// Device is one that a program asks for, as CDI specs name it: vendor.com/class=name,
// vendor.com/class for the first of a class, vendor.com/class=* for all, or a name that annotations give.
type Device struct {
	Name     string
	Required bool // without it the step fails
}

// InlineFile is a heredoc.
type InlineFile struct {
	Path string
	Data []byte
	Mode uint32
}

// Copy adds files to the root: COPY and ADD.
type Copy struct {
	Add bool // ADD: local archives are extracted
	// From is the step whose root is copied from; nil: the build context (Context
	// names which one, "" the main one).
	From    *Step
	Context string
	// Sources are patterns (path.Match, "**" with Parents), cleaned, relative to the source's root;
	// "." is the root. With Parents, "a/./b" copies a/b as b.
	Sources []string
	// Remote, where not empty, has for each source the step that fetches it (an Op of
	// *Fetch), and nil for those that are paths. A fetched source is a plain name, no pattern.
	Remote  []*Step
	Written []string     // Sources as the Dockerfile has them, variables expanded, for messages
	Inline  []InlineFile // heredoc sources; Path is a file name
	Dest    string       // absolute; a trailing slash is kept
	// Chown is "user[:group]", resolved in the target root. Empty: 0:0 for files of a
	// context, as they are for files of From.
	Chown   string
	Chmod   string // octal or symbolic; empty: kept
	Link    bool
	Parents bool
	Exclude []string
	Unpack  *bool // --unpack, where given
}

// Workdir makes a directory (and its parents) if it is not there.
type Workdir struct {
	Path string
	User string
}

func (*Base) op()    {}
func (*Copy) op()    {}
func (*Run) op()     {}
func (*Workdir) op() {}
