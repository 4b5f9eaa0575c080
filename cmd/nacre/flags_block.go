package main

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"nacre/internal/container"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// blockFlags are the flags of run and create that limit what a container reads and writes of one block device.
type blockFlags struct{ weights, readBps, writeBps, readIOps, writeIOps []string }

func (f *blockFlags) register(fl *pflag.FlagSet) {
	listVar(fl, &f.weights, "blkio-weight-device", "", "DEVICE:WEIGHT, --blkio-weight for one block device")
	listVar(fl, &f.readBps, "device-read-bps", "", "DEVICE:SIZE that it may read of a block device in a second, such as /dev/sda:1mb")
	listVar(fl, &f.writeBps, "device-write-bps", "", "DEVICE:SIZE that it may write in a second")
	listVar(fl, &f.readIOps, "device-read-iops", "", "DEVICE:NUMBER of times that it may read of a block device in a second")
	listVar(fl, &f.writeIOps, "device-write-iops", "", "DEVICE:NUMBER of times that it may write in a second")
}

func (f *blockFlags) apply(r *container.Resources) error {
	bytes := func(s string) (uint64, error) {
		n, err := units.RAMInBytes(s)
		if err != nil || n < 0 {
			return 0, errors.New("want DEVICE:SIZE, such as /dev/sda:1mb")
		}
		return uint64(n), nil
	}
	number := func(s string) (uint64, error) {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return 0, errors.New("want DEVICE:NUMBER, such as /dev/sda:100")
		}
		return n, nil
	}
	weight := func(s string) (uint64, error) {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n < 10 || n > 1000 {
			return 0, errors.New("want DEVICE:WEIGHT, such as /dev/sda:200, a weight of 10 to 1000")
		}
		return n, nil
	}
	for _, l := range []struct {
		flag  string
		from  []string
		parse func(string) (uint64, error)
		to    *[]container.DeviceRate
	}{
		{"blkio-weight-device", f.weights, weight, &r.WeightDevices},
		{"device-read-bps", f.readBps, bytes, &r.ReadBps}, {"device-write-bps", f.writeBps, bytes, &r.WriteBps},
		{"device-read-iops", f.readIOps, number, &r.ReadIOps}, {"device-write-iops", f.writeIOps, number, &r.WriteIOps},
	} {
		for _, s := range l.from {
			name, text, _ := strings.Cut(s, ":")
			rate, err := l.parse(text)
			if err == nil && !strings.HasPrefix(path.Clean(name), "/dev/") {
				err = errors.New("the device is a path below /dev")
			}
			if err != nil {
				return fmt.Errorf("--%s %s: %w", l.flag, s, err)
			}
			*l.to = append(*l.to, container.DeviceRate{Path: path.Clean(name), Rate: rate})
		}
	}
	return nil
}
