package layer

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// greedy are tars that take as much memory as they can, by the header of entry i.
var greedy = map[string]func(i int) ([]byte, error){
	// Out of order, with names that use up what they may.
	"files": func(i int) ([]byte, error) {
		h := header{name: fmt.Sprintf("%07d%s", 9_000_000-i, strings.Repeat("x", 30)), kind: typeReg}
		return h.append(nil, nil)
	},
	// One directory for each file.
	"directories": func(i int) ([]byte, error) {
		h := header{name: fmt.Sprintf("%04d/%07d/x", i%1000, i), kind: typeReg}
		return h.append(nil, nil)
	},
	// A short name in a large header.
	"headers": func(i int) ([]byte, error) {
		records := appendRecord(nil, "comment", strings.Repeat("c", 200_000))
		records = appendRecord(records, "path", fmt.Sprint(i))
		b, err := (&header{name: "p", kind: typePAX, size: int64(len(records))}).append(nil, nil)
		b = append(append(b, records...), zeros[:-len(records)&(blockSize-1)]...)
		if err != nil || i == 3000 {
			return nil, io.EOF
		}
		return (&header{name: "x", kind: typeReg}).append(b, nil)
	},
	// Many attributes, all of them different.
	"attributes": func(i int) ([]byte, error) {
		var list []xattr
		for j := range 100 {
			list = append(list, xattr{fmt.Sprintf("user.%d", j), strconv.Itoa(i)})
		}
		return (&header{name: strconv.Itoa(i), kind: typeReg}).append(nil, list)
	},
}

// Whatever a plain tar says, it takes less than 200 MB of memory to find out.
func TestIngestMemory(t *testing.T) {
	if what := os.Getenv("NACRE_TEST_GREEDY"); what != "" {
		r, w := io.Pipe()
		go func() {
			for i := range 549_000 {
				b, err := greedy[what](i)
				if err != nil {
					break
				}
				if _, err := w.Write(b); err != nil {
					return
				}
			}
			w.Write(make([]byte, 2*blockSize))
			w.Close()
		}()
		info, err := Ingest(t.Context(), t.TempDir(), r, IngestOptions{})
		r.Close()
		status, _ := os.ReadFile("/proc/self/status")
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		t.Logf("%d entries, %v", info.Entries, err)
		fmt.Println("peak:", strings.Fields(peak)[0])
		return
	}
	for what := range greedy {
		t.Run(what, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestIngestMemory$", "-test.v")
			cmd.Env = append(os.Environ(), "NACRE_TEST_GREEDY="+what)
			out, err := cmd.CombinedOutput()
			_, after, _ := strings.Cut(string(out), "peak: ")
			digits, _, _ := strings.Cut(after, "\n")
			peak, perr := strconv.Atoi(digits)
			if err != nil || perr != nil {
				t.Fatalf("%v, %v: %s", err, perr, out)
			}
			t.Logf("%d kB: %s", peak, out)
			if peak > 200_000 {
				t.Errorf("%d kB at its peak", peak)
			}
		})
	}
}
