// Conformance builds cases made by others with nacre, and compares what comes out with what
// BuildKit made of each.
//
// The cases are not part of the project: a folder that has cases.json's archive (see its
// own README.md) is named by NACRE_CONFORMANCE, or lies beside the checkout in
// shared/conformance. Where there is none, that is said and nothing is tested.
//
// Where the recorded BuildKit is too old to judge, the table in judged.go says what
// must come out instead, and why; docs/dockerfile.md has these reasons for users.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"text/tabwriter"
)

func main() {
	nacre := flag.String("nacre", "../bin/nacre", "the program to test")
	run := flag.String("run", "", "only the cases whose name matches this regular expression")
	show := flag.Bool("show", false, "print the files of the images that were built")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := test(ctx, *nacre, *run, *show)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// archive is where the cases are.
func archive() string {
	dir := os.Getenv("NACRE_CONFORMANCE")
	if dir == "" {
		dir = "../../shared/conformance"
	}
	return filepath.Join(dir, "dockerfile-cases.tar.zst")
}

func test(ctx context.Context, nacre, run string, show bool) error {
	only, err := regexp.Compile(run)
	if err != nil {
		return err
	}
	if nacre, err = filepath.Abs(nacre); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "nacre-conformance-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	cases, err := load(archive(), filepath.Join(scratch, "cases"))
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Printf("no cases at %s: nothing was compared (NACRE_CONFORMANCE names their folder)\n", archive())
		return nil
	}
	if err != nil {
		return err
	}
	b := builder{nacre: nacre, root: filepath.Join(scratch, "root"), scratch: scratch}
	base, err := b.bases(ctx)
	if err != nil {
		return err
	}
	return table(ctx, b, cases, base, only, show)
}

// table tests every case and prints a line for each.
func table(ctx context.Context, b builder, cases []testCase, base tree, only *regexp.Regexp, show bool) error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	passed, byRecord, failed := 0, 0, 0
	for _, c := range cases {
		if !only.MatchString(c.Dir) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		got := b.build(ctx, c)
		if show {
			fmt.Print(got)
		}
		differences := compare(c, got, base)
		j, judged := judgements[c.Dir]
		switch {
		case len(differences) > 0:
			failed++
			fmt.Fprintf(out, "FAIL\t%s\n", c.Dir)
			for _, d := range differences {
				fmt.Fprintf(out, "\t\t%s\n", d)
			}
		case judged:
			passed++
			fmt.Fprintf(out, "ok\t%s\t%s\n", c.Dir, j.why)
		default:
			passed++
			byRecord++
			fmt.Fprintf(out, "ok\t%s\tas BuildKit\n", c.Dir)
		}
	}
	out.Flush()
	fmt.Printf("%d of %d cases pass: %d as the recorded BuildKit, %d by documentation\n", passed, passed+failed, byRecord, passed-byRecord)
	if failed > 0 {
		return fmt.Errorf("%d cases differ", failed)
	}
	return nil
}
