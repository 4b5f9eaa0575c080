package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// forwardSysctl switches on that the host passes packets on.
const forwardSysctl = "/proc/sys/net/ipv4/ip_forward"

// ensureWayOut sees to it that packets of a range leave the host and their answers come back.
// Notes say what was changed of the host, or why something may not work.
func ensureWayOut(ctx context.Context, r netip.Prefix) (notes []string, err error) {
	note, err := ensureForwarding()
	if err != nil {
		return nil, err
	}
	if note != "" {
		notes = append(notes, note)
	}
	nftErr := ensureTable(r)
	if nftErr != nil {
		if err := iptablesAll(ctx, r); err != nil {
			return nil, fmt.Errorf("translate addresses: by nftables: %w; by iptables: %w", nftErr, err)
		}
		return notes, nil
	}
	if program := droppingProgram(); program != "" {
		if err := iptables(ctx, program, acceptRules); err != nil {
			notes = append(notes, fmt.Sprintf("the host's firewall drops what it should pass on for %s: %v", Name, err))
		}
	}
	return notes, nil
}

// ensureForwarding switches forwarding on where it is off.
func ensureForwarding() (note string, err error) {
	data, err := os.ReadFile(forwardSysctl)
	if err != nil {
		return "", err
	}
	if string(bytes.TrimSpace(data)) != "0" {
		return "", nil
	}
	if err := os.WriteFile(forwardSysctl, []byte("1"), 0o644); err != nil {
		return "", fmt.Errorf("switch forwarding on: %w", err)
	}
	return "net.ipv4.ip_forward was 0 and is 1 now: this host passes packets on between its networks", nil
}

// rule is one of iptables: a table, a chain, and the rest.
type rule struct {
	table, chain string
	args         []string
}

// acceptRules let through what others' chains would drop. They come before all others.
var acceptRules = []rule{
	{"filter", "FORWARD", []string{"-o", Name, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"}},
	{"filter", "FORWARD", []string{"-i", Name, "-j", "ACCEPT"}},
}

// iptablesAll makes all rules by iptables: those of nftables are not to be had.
func iptablesAll(ctx context.Context, r netip.Prefix) error {
	const program = "iptables"
	if _, err := exec.LookPath(program); err != nil {
		return err
	}
	return iptables(ctx, program, slices.Concat([]rule{
		{"nat", "POSTROUTING", []string{"-s", r.String(), "!", "-o", Name, "-j", "MASQUERADE"}},
		{"filter", "FORWARD", []string{"-o", Name, "!", "-i", Name, "-j", "DROP"}},
	}, acceptRules))
}

// iptables inserts those rules that are missing, each before the others.
func iptables(ctx context.Context, program string, rules []rule) error {
	for _, r := range rules {
		r.args = append(slices.Clone(r.args), "-m", "comment", "--comment", "nacre")
		if exec.CommandContext(ctx, program, append([]string{"-w", "-t", r.table, "-C", r.chain}, r.args...)...).Run() == nil {
			continue
		}
		out, err := exec.CommandContext(ctx, program, append([]string{"-w", "-t", r.table, "-I", r.chain}, r.args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// droppingProgram is the iptables whose chain FORWARD drops by default, as docker and ufw
// have it; empty: none does. A chain of ours cannot undo that.
func droppingProgram() string {
	if chainDrops() {
		return firstOf("iptables-nft", "iptables")
	}
	// Tables of the old kind are there only where somebody uses them.
	data, _ := os.ReadFile("/proc/net/ip_tables_names")
	if !slices.Contains(strings.Fields(string(data)), "filter") {
		return ""
	}
	program := firstOf("iptables-legacy", "iptables")
	out, err := exec.Command(program, "-w", "-S", "FORWARD").Output()
	if err != nil || !strings.Contains(string(out), "-P FORWARD DROP") {
		return ""
	}
	return program
}

func firstOf(programs ...string) string {
	for _, p := range programs {
		if _, err := exec.LookPath(p); !errors.Is(err, exec.ErrNotFound) {
			return p
		}
	}
	return programs[len(programs)-1]
}
