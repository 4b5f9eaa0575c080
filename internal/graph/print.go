package graph

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"nacre/internal/image"
)

// jsonGraph is the printed form of a Graph. Its shape is for people and scripts
// and only grows.
type jsonGraph struct {
	Target   string        `json:"target"`
	Steps    []jsonStep    `json:"steps"`
	Config   image.Config  `json:"config"`
	History  []jsonHistory `json:"history"`
	Skipped  []string      `json:"skipped,omitempty"`
	Warnings []Warning     `json:"warnings,omitempty"`
}

type jsonStep struct {
	ID     int      `json:"id"`
	Stage  string   `json:"stage,omitempty"`
	Pos    string   `json:"pos"`
	Name   string   `json:"name"`
	Inputs []int    `json:"inputs,omitempty"`
	Fields []string `json:"fields"` // name=value, as Fields gives them
}

type jsonHistory struct {
	CreatedBy string `json:"createdBy"`
	Step      *int   `json:"step,omitempty"`
}

// WriteJSON prints g, indented. Equal graphs print alike.
func (g *Graph) WriteJSON(w io.Writer) error {
	out := jsonGraph{Target: g.Target.Stage, Steps: []jsonStep{}, Config: g.Target.Config, History: []jsonHistory{}, Skipped: g.Skipped, Warnings: g.Warnings}
	for _, s := range g.Steps {
		j := jsonStep{ID: s.ID, Stage: s.Stage, Pos: s.Pos, Name: s.Name}
		for _, in := range s.Inputs() {
			j.Inputs = append(j.Inputs, in.ID)
		}
		for _, f := range s.Fields() {
			j.Fields = append(j.Fields, f.Name+"="+f.Value)
		}
		out.Steps = append(out.Steps, j)
	}
	for _, h := range g.Target.History {
		j := jsonHistory{CreatedBy: h.CreatedBy}
		if h.Step != nil {
			j.Step = &h.Step.ID
		}
		out.History = append(out.History, j)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

// WriteDOT prints g as a digraph for Graphviz: an arrow for each input, dashed
// where files are copied, a box around each stage.
func (g *Graph) WriteDOT(w io.Writer) error {
	var b strings.Builder
	b.WriteString("digraph build {\n\trankdir=LR\n\tnode [shape=box, fontname=monospace]\n")
	var stages []string
	members := map[string][]*Step{}
	for _, s := range g.Steps {
		if members[s.Stage] == nil {
			stages = append(stages, s.Stage)
		}
		members[s.Stage] = append(members[s.Stage], s)
	}
	for i, name := range stages {
		indent := "\t"
		if name != "" {
			fmt.Fprintf(&b, "\tsubgraph cluster_%d {\n\t\tlabel=%s\n", i, quoteDOT(name))
			indent = "\t\t"
		}
		for _, s := range members[name] {
			fmt.Fprintf(&b, "%ss%d [label=%s]\n", indent, s.ID, quoteDOT(s.Name))
		}
		if name != "" {
			b.WriteString("\t}\n")
		}
	}
	for _, s := range g.Steps {
		for _, in := range s.Inputs() {
			style := " [style=dashed]"
			if in == s.Parent {
				style = ""
			}
			fmt.Fprintf(&b, "\ts%d -> s%d%s\n", in.ID, s.ID, style)
		}
	}
	if last := g.Target.Last; last != nil {
		fmt.Fprintf(&b, "\tresult [shape=oval, label=%s]\n\ts%d -> result\n", quoteDOT(g.Target.Stage), last.ID)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// quoteDOT is s as a string of the DOT language, cut where it is too long to read.
func quoteDOT(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}
