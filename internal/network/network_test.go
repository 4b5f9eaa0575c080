package network

import (
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	data, err := HostsFile{Hostname: "web", Extra: []string{"db:10.0.0.2", "v6:[::2]", "gw=host-gateway"}}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"127.0.0.1\tlocalhost\n", "127.0.1.1\tweb\n", "10.0.0.2\tdb\n", "::2\tv6\n", "127.0.0.1\tgw\n"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %q in\n%s", want, data)
		}
	}
	for _, bad := range []string{"db", "db:", ":1.2.3.4", "db:1.2.3", "db:10.0.0.2\n1.1.1.1 evil"} {
		if _, err := (HostsFile{Extra: []string{bad}}).Bytes(); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
