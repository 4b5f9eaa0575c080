package main

import (
	"encoding/json"
	"fmt"
	"time"

	"nacre/internal/compare"
	"nacre/internal/image"
	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

// diffJSON writes an object a line: first settings and history, then files in their order, and the sum.
type diffJSON struct{ enc *json.Encoder }

type jsonSetting struct {
	Type string  `json:"type"` // "config"
	Name string  `json:"name"`
	Key  string  `json:"key,omitempty"`
	A    *string `json:"a"` // null: there is none
	B    *string `json:"b"`
}

type jsonHistory struct {
	Type       string     `json:"type"` // "history"
	Side       string     `json:"side"` // "a" or "b", which alone has it
	CreatedBy  string     `json:"createdBy"`
	Comment    string     `json:"comment,omitempty"`
	Created    *time.Time `json:"created,omitempty"`
	EmptyLayer bool       `json:"emptyLayer"`
}

type jsonFile struct {
	Type string           `json:"type"` // "file"
	Kind string           `json:"kind"` // "added", "changed" or "deleted"
	Path string           `json:"path"`
	A    *jsonObject      `json:"a"` // null: there is nothing
	B    *jsonObject      `json:"b"`
	What []jsonDifference `json:"differences,omitempty"`
}

type jsonObject struct {
	Type   string            `json:"type"`
	Mode   string            `json:"mode"`
	UID    int               `json:"uid"`
	GID    int               `json:"gid"`
	Size   int64             `json:"size"`
	Time   time.Time         `json:"time"`
	Target string            `json:"target,omitempty"`
	Device string            `json:"device,omitempty"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"` // base64
}

type jsonDifference struct {
	What   string `json:"what"`
	Attr   string `json:"attribute,omitempty"`
	A      string `json:"a"`
	B      string `json:"b"`
	Offset *int64 `json:"offset,omitempty"` // of content: the first byte that differs
	Line   int    `json:"line,omitempty"`
}

type jsonSum struct {
	Type     string `json:"type"` // "summary"
	Settings int    `json:"settings"`
	Added    int    `json:"added"`
	Changed  int    `json:"changed"`
	Deleted  int    `json:"deleted"`
	Bytes    int64  `json:"bytes"`
}

func (d diffJSON) config(fields []compare.Field, was, is []image.History) error {
	for _, f := range fields {
		row := jsonSetting{Type: "config", Name: f.Name, Key: f.Key}
		if f.HasA {
			row.A = &f.A
		}
		if f.HasB {
			row.B = &f.B
		}
		if err := d.enc.Encode(row); err != nil {
			return err
		}
	}
	for i, list := range [][]image.History{was, is} {
		for _, h := range list {
			row := jsonHistory{"history", string("ab"[i]), h.CreatedBy, h.Comment, h.Created, h.EmptyLayer}
			if err := d.enc.Encode(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d diffJSON) file(c compare.Change) error {
	kind := map[string]string{"A": "added", "C": "changed", "D": "deleted"}[kindOf(c)]
	row := jsonFile{Type: "file", Kind: kind, Path: rooted(c.Name), A: jsonObjectOf(c.A), B: jsonObjectOf(c.B)}
	for _, x := range c.What {
		j := jsonDifference{What: string(x.What), Attr: x.Attr, A: x.First, B: x.Second, Line: x.Line}
		switch x.What {
		case compare.Content:
			j.Offset = &x.Offset
		case compare.Link:
			j.A, j.B = linkOf(x.First), linkOf(x.Second)
		}
		row.What = append(row.What, j)
	}
	return d.enc.Encode(row)
}

func jsonObjectOf(st *layer.Stat) *jsonObject {
	if st == nil {
		return nil
	}
	o := &jsonObject{
		Type: compare.Kind(st), Mode: fmt.Sprintf("%04o", st.Mode&0o7777), UID: st.UID, GID: st.GID, Size: st.Size, Time: st.ModTime.UTC(), Target: st.Link,
	}
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		o.Device = fmt.Sprintf("%d:%d", st.Major, st.Minor)
	}
	for name, value := range st.Xattrs {
		if o.Xattrs == nil {
			o.Xattrs = map[string][]byte{}
		}
		o.Xattrs[name] = []byte(value)
	}
	return o
}

func (d diffJSON) end(s diffSum) error {
	return d.enc.Encode(jsonSum{"summary", s.Settings, s.Added, s.Changed, s.Removed, s.Bytes})
}
