package explain

import (
	"slices"
	"strings"

	"nacre/internal/cache"
	"nacre/internal/graph"
)

// parts is a record taken apart.
type parts struct {
	kind, op string
	own      []item      // what the step says of itself
	inputs   []inputPart // the parent, then what it reads from
	contexts []string    // digests of files of build contexts
}

// inputPart is a root: what it was made of, and what came out.
type inputPart struct{ key, outcome string }

// take takes a record apart by the names that graph.Step.Fields and the builder give its fields.
// scope is names of variables that are build arguments.
func take(rec cache.Record, scope []string) parts {
	var p parts
	fields := rec.Fields
	if len(fields) > 0 && fields[0].Name == "kind" {
		p.kind, fields = fields[0].Value, fields[1:]
	}
	fields, inputs := split(fields)
	if len(fields) > 0 && fields[0].Name == "op" {
		p.op = fields[0].Value
	}
	p.own = items(fields, scope)
	for _, f := range inputs {
		switch f.Name {
		case "context":
			p.contexts = append(p.contexts, f.Value)
		case "outcome":
			if n := len(p.inputs); n > 0 {
				p.inputs[n-1].outcome = f.Value
			}
		default:
			p.inputs = append(p.inputs, inputPart{key: f.Value})
		}
	}
	return p
}

// split tells what a step says of itself from what it is from.
func split(fields []cache.Field) (own, inputs []cache.Field) {
	for _, f := range fields {
		if f.Name == "parent" || f.Name == "context" || f.Name == "outcome" || f.Name == "from" && len(f.Value) == 64 && !strings.Contains(f.Value, ":") {
			inputs = append(inputs, f)
		} else {
			own = append(own, f)
		}
	}
	return own, inputs
}

// items gives fields the names that people know them by.
func items(fields []cache.Field, scope []string) (list []item) {
	var args []string
	var group string // what the fields are of: "mount /x", "heredoc /dev/pipes/x"
	for i, f := range fields {
		switch f.Name {
		case "arg":
			if args = append(args, f.Value); i+1 == len(fields) || fields[i+1].Name != "arg" {
				list = append(list, command(args)...)
			}
			continue
		case "env":
			if !inMount(group) {
				list = append(list, variable(f.Value, scope))
				continue
			}
		case "mount":
			group = "mount"
			if i+1 < len(fields) && fields[i+1].Name == "target" && fields[i+1].Value != "" {
				group += " " + fields[i+1].Value
			}
			list = append(list, item{name: group, value: f.Value})
			continue
		case "file":
			group = "heredoc " + f.Value
		case "source", "dest", "chown", "chmod", "device", "granted", "SOURCE_DATE_EPOCH":
			if !inMount(group) || f.Name == "device" || f.Name == "granted" || f.Name == "SOURCE_DATE_EPOCH" {
				group = ""
			}
		}
		if group != "" {
			list = append(list, item{name: group + " " + f.Name, value: f.Value})
			continue
		}
		name, ok := words[f.Name]
		if !ok {
			name = f.Name
		}
		list = append(list, item{name: name, value: f.Value})
	}
	return list
}

func inMount(group string) bool { return strings.HasPrefix(group, "mount") }

// words are what Dockerfiles call some fields.
var words = map[string]string{
	"op": "instruction", "dir": "WORKDIR", "path": "WORKDIR", "user": "USER", "network": "--network", "security": "--security",
	"dest": "destination", "chown": "--chown", "chmod": "--chmod", "link": "--link", "parents": "--parents", "exclude": "--exclude", "unpack": "--unpack",
	"device": "--device", "granted": "device",
}

// command is argv: of the shell form the shell and the command apart.
func command(args []string) []item {
	if len(args) == 3 && strings.HasPrefix(args[1], "-") {
		return []item{{name: "SHELL", value: args[0] + " " + args[1]}, {name: "command", value: args[2]}}
	}
	return []item{{name: "command", value: strings.Join(args, " ")}}
}

// variable is NAME=value. Values of what sounds like a secret are not shown.
func variable(env string, scope []string) item {
	name, value, _ := strings.Cut(env, "=")
	what := "variable "
	if slices.Contains(scope, name) {
		what = "build argument "
	}
	return item{name: what + name, value: value, hidden: graph.SoundsSecret(name)}
}

// Identity is the instruction of a step by its fields, as it was written, whatever came before it: without
// variables, user, directory and inputs.
func Identity(fields []graph.Field) string {
	list := make([]cache.Field, len(fields))
	for i, f := range fields {
		list[i] = cache.Field(f)
	}
	own, _ := split(list)
	return identity(items(own, nil))
}

func identity(own []item) string {
	var b strings.Builder
	run := len(own) > 0 && own[0].value == "run"
	for _, f := range own {
		switch f.name {
		case "USER", "SHELL", "--network", "SOURCE_DATE_EPOCH", "device":
			continue
		case "WORKDIR":
			if run {
				continue
			}
		}
		if strings.HasPrefix(f.name, "variable ") || strings.HasPrefix(f.name, "build argument ") {
			continue
		}
		b.WriteString(f.name + "\x00" + f.value + "\x00")
	}
	return b.String()
}
