package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// comparePaths is for images of which the record tells not all: the names of files are in the judgement, what they are
// in the record as far as it has them, and else in the context that they come from.
func comparePaths(c testCase, want []string, got, base tree) []string {
	skip := ignored(c)
	var names []string
	for name := range got {
		if _, ok := base[name]; !ok && !skip.has(name, "") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		return []string{"has " + strings.Join(names, " "), "should have " + strings.Join(want, " ")}
	}
	context, err := contextFiles(c.context)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, name := range names {
		out = append(out, compareJudged(c, name, got, context, skip)...)
	}
	return out
}

// compareJudged says what is wrong with one file.
func compareJudged(c testCase, name string, got, context tree, skip ignore) []string {
	f := got[name]
	if f.Type == "1" { // what it is a link of has the content
		link := f
		f = got[strings.Trim(link.Link, "/")]
		f.Type = "0"
	}
	if text, ok := judgedTexts[c.Dir][name]; ok {
		want := f
		want.Type, want.Mode, want.Size, want.Digest = "0", 0o644, int64(len(text)), sum([]byte(text))
		return compareFile(name, f, want, skip)
	}
	for recorded, want := range c.BuildKit.FS {
		if strings.Trim(recorded, "/") == name {
			return compareFile(name, f, want, skip)
		}
	}
	candidates := origins(name, context)
	if link, ok := judgedLinks[c.Dir][filepath.Base(name)]; ok {
		candidates = []file{link}
		if link.Type == "1" {
			candidates = []file{context[link.Link]}
		}
	}
	if f.Type == "5" && (len(candidates) == 0 || !strings.Contains(name, "/")) {
		// The directory that DEST names is made on the way where it is not there, and so 0755.
		candidates = append(candidates, file{Type: "5", Mode: 0o755})
	}
	var out []string
	for _, want := range candidates {
		want.MTime, want.Xattrs = f.MTime, f.Xattrs // the cases' archive has no own times for some of these
		if out = compareFile(name, f, want, skip); len(out) == 0 {
			return nil
		}
	}
	if len(candidates) == 0 {
		return []string{name + ": nothing says what it should be like"}
	}
	return out
}

// origins are the files of the context that name can be a copy of: those whose path is the longest end of it, or
// where there is none those of its name.
func origins(name string, context tree) []file {
	for end := name; end != ""; _, end, _ = strings.Cut(end, "/") {
		if f, ok := context[end]; ok && (strings.Contains(end, "/") || end == name) {
			return []file{f}
		}
	}
	var out []file
	for other, f := range context {
		if filepath.Base(other) == filepath.Base(name) {
			out = append(out, f)
		}
	}
	return out
}

// contextFiles is a context as an image would have it, all of root's.
func contextFiles(dir string) (tree, error) {
	files := tree{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		f := file{Mode: int64(info.Mode().Perm())}
		switch {
		case d.IsDir():
			f.Type = "5"
		case info.Mode()&fs.ModeSymlink != 0:
			f.Type, f.Mode = "2", 0o777
			f.Link, err = os.Readlink(path)
		default:
			var data []byte
			data, err = os.ReadFile(path)
			f.Type, f.Size, f.Digest = "0", int64(len(data)), sum(data)
		}
		files[name] = f
		return err
	})
	return files, err
}

// sum is a digest as the record has it.
func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data))[:12] }

// judgedTexts are files that the Dockerfile itself has, by case and name; all have mode 0644. They were
// worked out by hand from what the documentation says of heredocs.
var judgedTexts = map[string]map[string]string{
	"heredoc-copy": {
		"test/robots.txt": robots, "test2/robots.txt": robots,
		"test/humans.txt": humans, "test2/humans.txt": humans, "test2/image_file": "helloworld\n",
	},
	"heredoc-quoting": quoting(),
}

// judgedLinks are those that a RUN of a case makes, by name: what they are or, of hard links, the file of the
// context they are links of.
var judgedLinks = map[string]map[string]file{
	"copy--parents-dir-with-links": {
		"symlink-b.txt":    {Type: "2", Mode: 0o777, Link: "/x/z/b.txt"},
		"hardlink-a.txt":   {Type: "1", Link: "x/z/a.txt"},
		"hardlink-y-b.txt": {Type: "1", Link: "x/y/b.txt"},
	},
}

const (
	robots = "(robots content)\nLong file with random text\nRandom line\nHelloWorld\n"
	humans = "(humans content)\n"
)

// quoting: variables of the build are replaced where the word after << has no quotes, quotes in the text stay, and
// what looks like an assignment is none.
func quoting() map[string]string {
	files := map[string]string{}
	for _, verb := range []string{"copy", "add"} {
		for name, text := range map[string]string{
			"unquoted1": "varB=valueB\ntouch /argA=argvA\ntouch /varA=valueA\ntouch /varB=\n",
			"unquoted2": "varB=valueB\nargA=\"argvA\"\nvarA=\"valueA\"\nvarB=\"\"\n",
			"unquoted3": "varA=valueA2\nvarB=valueB\nargA=\"argvA\"\nvarA=\"valueA\"\nvarB=\"\"\n",
			"unquoted4": "argA=argvA2\nvarA=valueA2\nvarB=valueB\nargA=\"argvA\"\nvarA=\"valueA\"\nvarB=\"\"\n",
			"quoted1":   "varB=valueB\nargA=$argA\nvarA=$varA\nvarB=$varB\n",
			"quoted2":   "varB=valueB\nargA=\"$argA\"\nvarA=\"$varA\"\nvarB=\"$varB\"\n",
			"quoted3":   "varA=valueA2\nvarB=valueB\nargA=\"$argA\"\nvarA=\"$varA\"\nvarB=\"$varB\"\n",
			"quoted4":   "argA=argvA2\nvarA=valueA2\nvarB=valueB\nargA=\"$argA\"\nvarA=\"$varA\"\nvarB=\"$varB\"\n",
		} {
			files[verb+"-"+name+".txt"] = text
		}
	}
	for _, quoted := range []string{"quoted", "unquoted"} { // touched by the shell of RUN, and empty
		for _, of := range []string{"argA=argvA.%s1", "argA=argvA.%s2", "argA=argvA.%s3", "argA=argvA2.%s4", "varA=valueA.%s1",
			"varA=valueA.%s2", "varA=valueA2.%s3", "varA=valueA2.%s4", "varB=valueB.%s1", "varB=valueB.%s2", "varB=valueB.%s3",
			"varB=valueB.%s4"} {
			files["run-"+fmt.Sprintf(of, quoted)+".txt"] = ""
		}
	}
	return files
}
