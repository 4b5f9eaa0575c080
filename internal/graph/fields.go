package graph

import (
	"strconv"
)

// Field is one named part of what defines a step.
type Field struct{ Name, Value string }

// Fields are all that defines what s does, apart from what its Inputs hold:
// two steps of equal fields and equal inputs have the same outcome, as far as
// that can be told. Position and name are not among them, nor are proxies.
func (s *Step) Fields() []Field {
	switch op := s.Op.(type) {
	case *Base:
		return op.fields()
	case *Run:
		return op.fields()
	case *Copy:
		return op.fields()
	case *Fetch:
		return op.fields()
	case *Workdir:
		return []Field{{"op", "workdir"}, {"path", op.Path}, {"user", op.User}}
	}
	return nil
}

func (op *Base) fields() []Field {
	f := []Field{{"op", "base"}}
	for _, id := range op.DiffIDs {
		f = append(f, Field{"layer", id.String()})
	}
	return f
}

func (op *Run) fields() []Field {
	f := []Field{{"op", "run"}}
	f = appendAll(f, "arg", op.Args)
	f = appendAll(f, "env", op.Env)
	f = append(f, Field{"dir", op.Dir}, Field{"user", op.User}, Field{"network", op.Network})
	if op.Insecure {
		f = append(f, Field{"security", "insecure"})
	}
	for _, m := range op.Mounts {
		f = append(f, m.fields()...)
	}
	for _, d := range op.Devices {
		f = append(f, Field{"device", d.Name})
	}
	return appendFiles(f, op.Files)
}

func (op *Copy) fields() []Field {
	name, from := "copy", "context:"+op.Context
	if op.Add {
		name = "add"
	}
	if op.From != nil {
		from = "step"
	}
	f := []Field{{"op", name}, {"from", from}}
	for i, src := range op.Sources {
		f = append(f, Field{"source", src})
		if len(op.Remote) > 0 && op.Remote[i] != nil {
			f = append(f, Field{"remote", "step"})
		}
	}
	f = appendFiles(f, op.Inline)
	f = append(f, Field{"dest", op.Dest}, Field{"chown", op.Chown}, Field{"chmod", op.Chmod})
	f = append(f, Field{"link", strconv.FormatBool(op.Link)}, Field{"parents", strconv.FormatBool(op.Parents)})
	f = appendAll(f, "exclude", op.Exclude)
	if op.Unpack != nil {
		f = append(f, Field{"unpack", strconv.FormatBool(*op.Unpack)})
	}
	return f
}

func appendAll(f []Field, name string, values []string) []Field {
	for _, v := range values {
		f = append(f, Field{name, v})
	}
	return f
}

func appendFiles(f []Field, files []InlineFile) []Field {
	for _, file := range files {
		f = append(f, Field{"file", file.Path}, Field{"mode", strconv.FormatUint(uint64(file.Mode), 8)}, Field{"data", string(file.Data)})
	}
	return f
}
