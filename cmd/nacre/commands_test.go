package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestCommandCalled: a command that is made alone is the one that is found among all, with and
// without flags of nacre's before it.
func TestCommandCalled(t *testing.T) {
	all := newRoot(&app{}, nil).Commands()
	if want := len(commands) + len(containerVerbs) + 1; len(all) != want { // and the manual
		t.Errorf("%d commands, want %d", len(all), want)
	}
	for _, c := range slices.Concat(commands[:], containerVerbs[:]) {
		if !slices.ContainsFunc(all, func(x *cobra.Command) bool { return x.Name() == c.name }) {
			t.Errorf("%s is not among all commands", c.name)
		}
		for _, before := range []string{"", "--root /x ", "--root=/x -l debug ", "-ldebug ", "-l=debug --log-level info "} {
			root := newRoot(&app{}, append(strings.Fields(before), c.name, "--help"))
			if got := root.Commands(); len(got) != 1 || got[0].Name() != c.name {
				t.Errorf("nacre %s%s makes %d commands, want its own alone", before, c.name, len(got))
			}
		}
	}
	for _, args := range []string{"__complete run --na", "__completeNoDesc --root /x rmi a"} {
		if got := newRoot(&app{}, strings.Fields(args)).Commands(); len(got) != 1 {
			t.Errorf("nacre %s makes %d commands, want one", args, len(got))
		}
	}
	for _, args := range []string{"", "help run", "-h", "--help run", "nonsense", "__complete ru", "__complete", "__complete --root", "--root", "--version", "-x run", "-- run"} {
		if got := newRoot(&app{}, strings.Fields(args)).Commands(); len(got) != len(all) {
			t.Errorf("nacre %s makes %d commands, want all", args, len(got))
		}
	}
}
