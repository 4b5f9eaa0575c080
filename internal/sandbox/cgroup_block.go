package sandbox

import (
	"fmt"
	"path/filepath"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// blockLimits are those of block devices: weights, for all and for some, and rates.
func blockLimits(b *specs.LinuxBlockIO) (out []limit) {
	if b.Weight != nil {
		out = append(out, blockLimit(*b.Weight))
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			out = append(out, blockDeviceLimit(d))
		}
	}
	rates := limit{controller: "blkio", name: "block device rate"}
	for _, r := range []struct {
		first, second string
		devices       []specs.LinuxThrottleDevice
	}{
		{"blkio.throttle.read_bps_device", "rbps", b.ThrottleReadBpsDevice},
		{"blkio.throttle.write_bps_device", "wbps", b.ThrottleWriteBpsDevice},
		{"blkio.throttle.read_iops_device", "riops", b.ThrottleReadIOPSDevice},
		{"blkio.throttle.write_iops_device", "wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range r.devices {
			rates.first = append(rates.first, [2]string{r.first, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate)})
			rates.second = append(rates.second, [2]string{"io.max", fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, r.second, d.Rate)})
		}
	}
	return append(out, rates)
}

// blockDeviceLimit is the weight of one device.
func blockDeviceLimit(d specs.LinuxWeightDevice) limit {
	value := func(weight uint64) string { return fmt.Sprintf("%d:%d %d", d.Major, d.Minor, weight) }
	own := value(uint64(*d.Weight))
	return limit{
		controller: "blkio", name: "block device weight", second: [][2]string{{"io.bfq.weight", own}},
		first: [][2]string{{"blkio.bfq.weight_device", own}},
		attach: func(dir string) error {
			err := writeFile(filepath.Join(dir, "io.weight"), value(secondWeight(*d.Weight)))
			if err != nil {
				err = writeFile(filepath.Join(dir, "io.bfq.weight"), own)
			}
			return err
		},
	}
}

// secondWeight is a weight of version 1, 10 to 1000, as one of version 2, 1 to 10000.
func secondWeight(weight uint16) uint64 { return 1 + (uint64(max(weight, 10))-10)*9999/990 }

// blockLimit is the weight of what it reads and writes.
func blockLimit(weight uint16) limit {
	return limit{
		controller: "blkio", name: "block device weight", second: [][2]string{{"io.bfq.weight", strconv.FormatUint(uint64(weight), 10)}},
		first: [][2]string{{"blkio.bfq.weight", strconv.FormatUint(uint64(weight), 10)}},
		attach: func(dir string) error {
			err := writeFile(filepath.Join(dir, "io.weight"), "default "+strconv.FormatUint(secondWeight(weight), 10))
			if err != nil {
				err = writeFile(filepath.Join(dir, "io.bfq.weight"), strconv.FormatUint(uint64(weight), 10))
			}
			return err
		},
	}
}
