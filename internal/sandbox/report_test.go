package sandbox

import "testing"

// TestExpectedReports: what a plan does not ask for is not taken from a child, nor anything but a failure once an init has
// started its program.
func TestExpectedReports(t *testing.T) {
	for _, c := range []struct {
		name     string
		plan     plan
		starting bool
		expected string
	}{
		{"plain", plan{}, false, "cfs"},
		{"started", plan{Terminal: true, OwnerFilter: []byte{1}, RuntimeHooks: true}, true, "f"},
		{"terminal", plan{Terminal: true}, false, "cfst"},
		{"owners", plan{OwnerFilter: []byte{1}}, false, "cfso"},
		{"hooks", plan{RuntimeHooks: true}, false, "cfsh"},
	} {
		r := runner{plan: &c.plan, starting: c.starting}
		for _, kind := range []byte("cfstoh") {
			want := false
			for i := range c.expected {
				want = want || c.expected[i] == kind
			}
			if r.expected(kind) != want {
				t.Errorf("%s: report %c is expected: %v", c.name, kind, !want)
			}
		}
	}
}
