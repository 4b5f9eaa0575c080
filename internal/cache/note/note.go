// Package note is what a step leaves beside its cache record to explain later misses
// by: the instruction as it was written, what its inputs were called, and the files
// of a build context, which the key has as one digest. Nothing here is part of a key, and a
// build that has no notes does the same as one that has.
package note

import "bytes"

// Note is what is kept. The zero value is an empty one.
type Note struct {
	Step   string  // the instruction as shown: "COPY src /src"
	Pos    string  // "Dockerfile:7"
	Place  string  // in its stage, as shown: "[build 2/5]"
	Inputs []Input // of the key's fields "parent" and "from", in their order
	Trees  []Tree  // of its fields "context", in their order
}

// Input is a root that the step used.
type Input struct {
	Step string // the instruction that left it
	Base string // of a base image: its name
	ID   string // of a base image or of what was fetched: a digest
}

// Tree is the files of a context that a step uses. One with more than MaxFiles has none.
type Tree struct {
	Total int // files there were
	Files []File
}

// Complete tells whether all files are there to be compared.
func (t Tree) Complete() bool { return t.Total == len(t.Files) }

// File is what counts of a file.
type File struct {
	Name string
	Mode uint32 // st_mode; 0: a hard link to another file of the tree
	Sum  Sum    // of its content, or of where it leads
	Attr Sum    // of its extended attributes; zero: none
}

// Sum is the beginning of a sha256: enough to tell that two differ.
type Sum [8]byte

// MaxFiles is how many files of a tree a note names at most: 20 bytes each with their names left out, and more than
// contexts have.
const MaxFiles = 200_000

// Change is how a file differs between two trees.
type Change struct {
	Kind     Kind
	Name     string
	Old, New File // zero where it was added or removed
}

// Kind is what became of a file.
type Kind int

// Kinds of changes.
const (
	Added Kind = iota + 1
	Removed
	Content // of a regular file, or the target of a link
	Mode    // permissions alone
	Type    // it is another kind of file now
	Attr    // extended attributes alone
)

// Compare returns the first change from old to now in the order of now, where a change
// of a file comes before one of a directory that only came or went with it, and how many files
// changed in all. A file that is gone comes last.
func Compare(old, now Tree) (first Change, n int) {
	before := make(map[string]File, len(old.Files))
	for _, f := range old.Files {
		before[f.Name] = f
	}
	found := func(c Change) {
		n++
		if n == 1 || first.dir() && !c.dir() {
			first = c
		}
	}
	for _, f := range now.Files {
		was, ok := before[f.Name]
		delete(before, f.Name)
		if !ok {
			found(Change{Added, f.Name, File{}, f})
		} else if k := kind(was, f); k != 0 {
			found(Change{k, f.Name, was, f})
		}
	}
	for _, f := range old.Files {
		if _, ok := before[f.Name]; ok {
			delete(before, f.Name)
			found(Change{Removed, f.Name, f, File{}})
		}
	}
	return first, n
}

const (
	typeMask  = 0o170000
	directory = 0o040000
)

func (c Change) dir() bool { return (c.Old.Mode|c.New.Mode)&typeMask == directory }

// kind is how a file of one name changed; 0 where it did not.
func kind(was, is File) Kind {
	switch {
	case was.Mode&typeMask != is.Mode&typeMask:
		return Type
	case !bytes.Equal(was.Sum[:], is.Sum[:]):
		return Content
	case was.Mode != is.Mode:
		return Mode
	case was.Attr != is.Attr:
		return Attr
	}
	return 0
}
