package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestCreated has something done to the namespaces before the program is executed.
func TestCreated(t *testing.T) {
	var namespace string
	r := start(t, func(c *Config) {
		c.Created = func(ctx context.Context, pid int) (err error) {
			namespace, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
			return err
		}
	}, "sh", "-c", "readlink /proc/self/ns/net")
	own, _ := os.Readlink("/proc/self/ns/net")
	if r.err != nil || strings.TrimSpace(r.out) != namespace || namespace == own {
		t.Errorf("%v: %q inside, %q was seen, ours is %q", r.err, r.out, namespace, own)
	}
}

// TestCreatedFails shows that nothing is executed where the preparation failed.
func TestCreatedFails(t *testing.T) {
	cause := errors.New("no cable")
	r := start(t, func(c *Config) {
		c.Created = func(context.Context, int) error { return cause }
	}, "echo", "ran")
	var failed *StartError
	if !errors.As(r.err, &failed) || failed.Code != CodeSandbox || !errors.Is(r.err, cause) || r.out != "" {
		t.Errorf("%v, printed %q", r.err, r.out)
	}
}
