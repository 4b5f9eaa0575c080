package isolation

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// Range is Count ids from Start on.
type Range struct{ Start, Count uint32 }

func (r Range) String() string { return fmt.Sprintf("%d:%d", r.Start, r.Count) }

// Files that say which subordinate ids users have: subuid(5), subgid(5).
const (
	subuidFile = "/etc/subuid"
	subgidFile = "/etc/subgid"
)

// subIDs are the ranges that file gives to the user with this number. No file is no range.
func subIDs(file string, uid int) ([]Range, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	number := strconv.Itoa(uid)
	name := ""
	if u, err := user.LookupId(number); err == nil {
		name = u.Username
	}
	list, err := parseSubIDs(f, number, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

// parseSubIDs reads lines OWNER:START:COUNT of subuid(5) whose owner is one of these. Lines that
// are none are passed over, as newuidmap does.
func parseSubIDs(r io.Reader, owners ...string) ([]Range, error) {
	var list []Range
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || f[0] == "" || f[0] != owners[0] && f[0] != owners[len(owners)-1] {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || start+count > 1<<32-1 {
			continue
		}
		list = append(list, Range{uint32(start), uint32(count)})
	}
	return list, lines.Err()
}

// Mapping is one line of /proc/PID/uid_map: Count ids from Inside on are those from Outside on in the
// parent's namespace.
type Mapping struct{ Inside, Outside, Count uint32 }

// readMap reads /proc/PID/uid_map or gid_map (user_namespaces(7)).
func readMap(file string) ([]Mapping, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseMap(string(data))
}

func parseMap(text string) ([]Mapping, error) {
	var list []Mapping
	for line := range strings.Lines(text) {
		var n [3]uint32
		fields := strings.Fields(line)
		if len(fields) != len(n) {
			return nil, fmt.Errorf("map of ids: %q is not three numbers", line)
		}
		for i, f := range fields {
			v, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("map of ids: %w", err)
			}
			n[i] = uint32(v)
		}
		list = append(list, Mapping{n[0], n[1], n[2]})
	}
	return list, nil
}

// covers tells whether a namespace with this map has all ids of r.
func covers(m []Mapping, r Range) bool {
	for _, one := range m {
		from, to := uint64(one.Inside), uint64(one.Inside)+uint64(one.Count)
		if uint64(r.Start) >= from && uint64(r.Start)+uint64(r.Count) <= to {
			return true
		}
	}
	return false
}
