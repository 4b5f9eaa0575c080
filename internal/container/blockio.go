package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// blockIO is what the container may use of block devices; nil where there is no limit.
func (r Resources) blockIO() (*specs.LinuxBlockIO, error) {
	var b specs.LinuxBlockIO
	none := true
	if r.BlkioWeight != 0 {
		b.Weight, none = &r.BlkioWeight, false
	}
	for _, d := range r.WeightDevices {
		major, minor, err := blockDevice(d.Path)
		if err != nil {
			return nil, err
		}
		weight := uint16(d.Rate)
		w := specs.LinuxWeightDevice{Weight: &weight}
		w.Major, w.Minor, none = major, minor, false
		b.WeightDevice = append(b.WeightDevice, w)
	}
	for _, l := range []struct {
		from []DeviceRate
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.ReadBps, &b.ThrottleReadBpsDevice}, {r.WriteBps, &b.ThrottleWriteBpsDevice},
		{r.ReadIOps, &b.ThrottleReadIOPSDevice}, {r.WriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range l.from {
			major, minor, err := blockDevice(d.Path)
			if err != nil {
				return nil, err
			}
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor, none = major, minor, false
			*l.to = append(*l.to, t)
		}
	}
	if none {
		return nil, nil
	}
	return &b, nil
}

// blockDevice is the number of a block device.
func blockDevice(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("limit of a device: %w", &fs.PathError{Op: "stat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, &os.PathError{Op: "limit", Path: path, Err: errors.New("not a block device")}
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}
