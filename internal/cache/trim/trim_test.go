package trim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// items reads "5@3 2@1!": five bytes used 3 days ago, and two a day ago that are fixed.
func items(t testing.TB, text string) (list []Item) {
	t.Helper()
	for word := range strings.FieldsSeq(text) {
		var it Item
		var days int
		if _, err := fmt.Sscanf(word, "%d@%d", &it.Size, &days); err != nil {
			t.Fatal(err)
		}
		it.Used, it.Fixed = now.AddDate(0, 0, -days), strings.HasSuffix(word, "!")
		list = append(list, it)
	}
	return list
}

func TestChoose(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name, items string
		l           Limits
		free        int64
		want        string
	}{
		{"nothing there", "", Limits{}, 0, "[]"},
		{"no limits: all goes, the oldest first", "5@1 5@3 5@2", Limits{}, 0, "[1 2 0]"},
		{"what is fixed stays", "5@1 5@3! 5@2", Limits{}, 0, "[2 0]"},
		{"the reserve stays", "5@1 5@3 5@2", Limits{Reserved: 10}, 0, "[1]"},
		{"a reserve that all fits into", "5@1 5@3 5@2", Limits{Reserved: 16}, 0, "[]"},
		{"what is fixed counts for the reserve", "5@1 5@3! 5@2", Limits{Reserved: 5}, 0, "[2 0]"},
		{"order decides, not size", "1@1 9@3 1@2", Limits{Reserved: 3}, 0, "[]"},
		{"things without a size go whatever is reserved", "0@3 5@2", Limits{Reserved: 99}, 0, "[0]"},
		{"down to a size", "5@1 5@3 5@2", Limits{MaxUsed: 10}, 0, "[1]"},
		{"to the byte", "5@1 5@3 5@2", Limits{MaxUsed: 9}, 0, "[1 2]"},
		{"what is in use counts for the size, and others go for it", "9@9! 5@1", Limits{MaxUsed: 9}, 0, "[1]"},
		{"small enough", "5@1 5@3 5@2", Limits{MaxUsed: 15}, 0, "[]"},
		{"a size below the reserve", "5@1 5@3 5@2", Limits{MaxUsed: 1, Reserved: 10}, 0, "[1]"},
		{"until there is room", "5@1 5@3 5@2", Limits{MinFree: 12}, 3, "[1 2]"},
		{"room enough", "5@1 5@3 5@2", Limits{MinFree: 12}, 12, "[]"},
		{"the larger need", "5@1 5@3 5@2", Limits{MinFree: 12, MaxUsed: 14}, 3, "[1 2]"},
		{"by age", "5@1 5@3 5@2", Limits{Unused: 2 * day}, 0, "[1]"},
		{"by age, but for the reserve", "5@10 5@30 5@20", Limits{Unused: 2 * day, Reserved: 6}, 0, "[1]"},
		{"young things go, too, where there is no room", "5@1 5@3 5@2", Limits{Unused: 9 * day, MaxUsed: 4}, 0, "[1 2 0]"},
		{"of the same age the largest first", "5@1 6@1", Limits{MaxUsed: 5}, 0, "[1]"},
		{"used in the future", "5@-9 5@1", Limits{Unused: day, MaxUsed: 5}, 0, "[1]"},
	} {
		if got := fmt.Sprint(tt.l.Choose(items(t, tt.items), tt.free, now)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestChooseHolds: whatever there is, the bounds hold, and nothing goes that was used after something that stays.
func TestChooseHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var list []Item
		var total, fixed int64
		for range r.IntN(12) {
			it := Item{Size: r.Int64N(10), Used: now.Add(-time.Duration(r.IntN(50)) * time.Hour), Fixed: r.IntN(4) == 0}
			list = append(list, it)
			total += it.Size
			if it.Fixed {
				fixed += it.Size
			}
		}
		l := Limits{Reserved: r.Int64N(30), MaxUsed: 1 + r.Int64N(60), MinFree: r.Int64N(40), Unused: time.Duration(r.IntN(60)) * time.Hour}
		free := r.Int64N(40)
		left := total
		gone := map[int]bool{}
		var latest time.Time
		for _, i := range l.Choose(list, free, now) {
			if list[i].Fixed || gone[i] || list[i].Used.Before(latest) {
				t.Fatalf("%+v of %+v: %d went", l, list, i)
			}
			gone[i], latest = true, list[i].Used
			left -= list[i].Size
		}
		if left < min(l.Reserved, total) {
			t.Fatalf("%+v of %+v leaves %d", l, list, left)
		}
		for i, it := range list {
			if !gone[i] && !it.Fixed && it.Used.Before(latest) {
				t.Fatalf("%+v of %+v: %d stays, and what was used later went", l, list, i)
			}
		}
		if left > max(l.MaxUsed, l.Reserved+9, fixed) {
			t.Fatalf("%+v of %+v: %d are left", l, list, left)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "reserved-space=10%/10GB,max-used-space=50%,min-free-space=10%/20GB,unused-for=1440h0m0s,every=1h0m0s"},
		{"off", "off"},
		{"off,on,every=0", "reserved-space=10%/10GB,max-used-space=50%,min-free-space=10%/20GB,unused-for=1440h0m0s,every=0s"},
		{"# ours\nmax-used-space=20GB # for all\n\nunused-for=30d, min-free-space=0\n", "reserved-space=10%/10GB,max-used-space=20GB,min-free-space=0,unused-for=720h0m0s,every=1h0m0s"},
		{"reserved-space=1.5GB,max-used-space=100%/7MiB,min-free-space=1000", "reserved-space=1536MB,max-used-space=100%/7MB,min-free-space=1000,unused-for=1440h0m0s,every=1h0m0s"},
	} {
		p, err := Default().Parse(tt.text)
		if err != nil || p.String() != tt.want {
			t.Errorf("%q: %s, %v", tt.text, p, err)
		}
		if again, err := (Policy{On: true}).Parse(p.String()); err != nil || again.String() != tt.want || p.On && again != p {
			t.Errorf("%s is read as %s, %v", p, again, err)
		}
	}
	for _, text := range []string{"of", "every", "every=1", "every=-1h", "unused-for=d", "unused-for=1e9d", "max-used-space=", "max-used-space=101%", "max-used-space=-1", "min-free-space=NaN", "reserved-space=1e30GB", "reserved-space=10%/", "a=b"} {
		if p, err := Default().Parse(text); err == nil {
			t.Errorf("%q is read as %s", text, p)
		}
	}
}

func TestLimits(t *testing.T) {
	const gb = 1 << 30
	for disk, want := range map[int64]Limits{
		0:         {Unused: 1440 * time.Hour},
		20 * gb:   {Reserved: 2 * gb, MaxUsed: 10 * gb, MinFree: 2 * gb, Unused: 1440 * time.Hour},
		1000 * gb: {Reserved: 10 * gb, MaxUsed: 500 * gb, MinFree: 20 * gb, Unused: 1440 * time.Hour},
	} {
		got := Default().Limits(disk)
		for _, n := range []*int64{&got.Reserved, &got.MaxUsed, &got.MinFree} {
			*n = (*n + gb/1000) / gb * gb // shares are of whole percents
		}
		if got != want {
			t.Errorf("%d: %+v, want %+v", disk, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("reserved-space=10%/10GB,max-used-space=50%\nevery=1d # x")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Default().Parse(text)
		if err != nil || !p.On {
			return
		}
		l := p.Limits(1 << 40)
		if l.Reserved < 0 || l.MaxUsed < 0 || l.MinFree < 0 || l.Unused < 0 || p.Every < 0 {
			t.Fatalf("%q: %+v", text, p)
		}
	})
}
