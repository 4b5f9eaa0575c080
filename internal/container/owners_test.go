package container

import (
	"reflect"
	"strings"
	"testing"

	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

func TestOwners(t *testing.T) {
	one := rootfs.Recorded{Path: "a b/\"ü\n\xff", Ino: 7, Born: unix.StatxTimestamp{Sec: 5, Nsec: 6}, MTime: -3, Owner: rootfs.Owner{UID: 33, GID: 0}}
	two := rootfs.Recorded{Path: "x", Ino: 8, Owner: rootfs.Owner{UID: 1, GID: 2}}
	later := two
	later.UID = 9
	got, err := parseOwners(strings.NewReader(formatOwner(one) + formatOwner(two) + "nonsense\n" + formatOwner(later) + formatOwner(one)[:20]))
	if want := []rootfs.Recorded{one, later}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, wanted %+v", got, err, want)
	}
}

func FuzzOwners(f *testing.F) {
	f.Add("7 5 6 -3 33 0 \"a b\"\n7 5 6 0 1 1 \"c\"\n8 0 0 0 -1 0 \"d\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseOwners(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var again strings.Builder
		for _, r := range list {
			again.WriteString(formatOwner(r))
		}
		if got, err := parseOwners(strings.NewReader(again.String())); err != nil || !reflect.DeepEqual(got, list) {
			t.Errorf("%+v, %v, wanted %+v", got, err, list)
		}
	})
}
