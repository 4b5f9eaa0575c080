package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"nacre/internal/build"
	"nacre/internal/compare"
)

// reproducible says that a build came out the same twice.
func (a *app) reproducible(v build.Verified) {
	what := "to the byte"
	if !v.SameTimes {
		what = "but for times, which SOURCE_DATE_EPOCH makes the same"
	}
	fmt.Fprintf(a.stderr, "reproducible: two builds are the same %s: %s\n", what, v.Manifest.Digest)
}

// unlikeDetail shows what came out otherwise, a line for each difference of each file.
func unlikeDetail(e *build.UnlikeError) string {
	var b strings.Builder
	for _, step := range e.Steps {
		fmt.Fprintf(&b, "%s: %s\n", step.Pos, step.Name)
		for _, d := range step.Files {
			fmt.Fprintf(&b, "  /%s: %s\n", strings.TrimPrefix(d.Name, "."), difference(d))
		}
		if step.More > 0 {
			fmt.Fprintf(&b, "  and %d differences more\n", step.More)
		}
	}
	return b.String()
}

func difference(d compare.Difference) string {
	switch {
	case d.What == compare.Missing && d.Second == "":
		return "a " + d.First + " that the second build did not make"
	case d.What == compare.Missing:
		return "a " + d.Second + " that only the second build made"
	case d.What == compare.Content && d.Line > 0:
		return fmt.Sprintf("content, from byte %d, line %d: %s, then %s", d.Offset, d.Line, d.First, d.Second)
	case d.What == compare.Content:
		return fmt.Sprintf("content, from byte %d: %s, then %s", d.Offset, d.First, d.Second)
	case d.What == compare.Attribute:
		return fmt.Sprintf("attribute %s: %s, then %s", d.Attr, none(d.First), none(d.Second))
	}
	return fmt.Sprintf("%s: %s, then %s", d.What, none(d.First), none(d.Second))
}

func none(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// causes are the usual reasons for builds to differ, by what they differ in, the surest first.
var causes = []struct {
	is   func(compare.Difference) bool
	hint string
}{
	{under("var/lib/apt/lists/", "var/cache/apt/"), "lists of apt change with every update: end the RUN with rm -rf /var/lib/apt/lists/*"},
	{under("var/cache/ldconfig/"), "ldconfig keeps times of files: end the RUN with rm -f /var/cache/ldconfig/aux-cache"},
	{under("var/log/"), "logs have times in them: remove what is in /var/log in the RUN that writes it"},
	{below("__pycache__"), "python keeps times of sources in .pyc files: PYTHONDONTWRITEBYTECODE=1, or compile with --invalidation-mode checked-hash"},
	{named("machine-id", "random-seed"), "the file is made at random for one machine: empty it in the RUN that makes it"},
	{prefixed("ssh_host_"), "the host key is made at random: make it when the container starts"},
	{suffixed(".gz", ".tgz", ".zip", ".jar", ".whl", ".a", ".tar"), "archives keep times: gzip -n, ar -D, tar --sort=name --mtime=@$SOURCE_DATE_EPOCH, and ARG SOURCE_DATE_EPOCH in the stage for tools that know it"},
	{what(compare.Time), "times before SOURCE_DATE_EPOCH are kept, later ones become it: let it be the time of the commit, or touch -d @$SOURCE_DATE_EPOCH"},
	{what(compare.Missing), "names differ: random ones, as of mktemp, or a number of the process or the time in them"},
	{dated, "the time of the build is in it: date -d @$SOURCE_DATE_EPOCH, with ARG SOURCE_DATE_EPOCH in the stage, is the same each time"},
}

// unlikeHint is what to do about the first difference that has a usual cause.
func unlikeHint(e *build.UnlikeError) string {
	for _, c := range causes {
		for _, step := range e.Steps {
			if slices.ContainsFunc(step.Files, c.is) {
				return c.hint
			}
		}
	}
	return "what depends on time, chance, order or the network makes a step come out otherwise: docs/reproducible.md"
}

type match = func(compare.Difference) bool

func under(dirs ...string) match {
	return func(d compare.Difference) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(d.Name, dir) })
	}
}

func below(dir string) match {
	return func(d compare.Difference) bool { return slices.Contains(strings.Split(d.Name, "/"), dir) }
}

func named(names ...string) match {
	return func(d compare.Difference) bool { return slices.Contains(names, path.Base(d.Name)) }
}

func prefixed(prefix string) match {
	return func(d compare.Difference) bool { return strings.HasPrefix(path.Base(d.Name), prefix) }
}

func suffixed(ends ...string) match {
	return func(d compare.Difference) bool {
		return d.What == compare.Content && slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(d.Name, end) })
	}
}

func what(w compare.What) match {
	return func(d compare.Difference) bool { return d.What == w }
}

// dated tells whether two lines differ in nothing but digits, and have some of them.
func dated(d compare.Difference) bool {
	if d.What != compare.Content || d.Line == 0 {
		return false
	}
	digits := 0
	mask := func(r rune) rune {
		if r >= '0' && r <= '9' {
			digits++
			return '0'
		}
		return r
	}
	return strings.Map(mask, d.First) == strings.Map(mask, d.Second) && digits > 0
}
