package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"nacre/internal/container"
	"nacre/internal/network"

	"github.com/spf13/cobra"
)

func networkCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "network",
		Short: "Look at the networks that containers have",
		Long: `Look at the networks that containers have: bridge (or private), host and none. There are these, and no networks of
one's own.`,
		Example: "  nacre network ls\n  nacre network inspect bridge",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cmd.AddCommand(networkListCommand(a), networkInspectCommand(a), networkPruneCommand(), networkRemoveCommand(a))
	for _, name := range []string{"create", "connect", "disconnect"} {
		cmd.AddCommand(noNetworksCommand(name))
	}
	return cmd
}

// networkRow is a network as docker's templates know it.
type networkRow struct {
	CreatedAt, Driver, ID, IPv4, IPv6, Internal, Labels, Name, Scope string

	fullID string
}

// Label is the value of a label, for templates: there are none.
func (networkRow) Label(string) string { return "" }

// networks are all there are, by name. Their IDs follow from their names.
func networks() (rows []networkRow) {
	created := bootTime().UTC().Format("2006-01-02 15:04:05 -0700 MST")
	for _, n := range [][2]string{{bridgeNetwork, "bridge"}, {network.ModeHost, "host"}, {network.ModeNone, "null"}} {
		sum := sha256.Sum256([]byte("network " + n[0]))
		id := hex.EncodeToString(sum[:])
		rows = append(rows, networkRow{
			CreatedAt: created, Driver: n[1], ID: id[:12], IPv4: strconv.FormatBool(n[0] == bridgeNetwork), IPv6: "false", Internal: "false",
			Name: n[0], Scope: "local", fullID: id,
		})
	}
	return rows
}

// findNetwork finds a network by its name, which private is another of, or by the beginning of its ID.
func findNetwork(name string) (networkRow, error) {
	all := networks()
	for _, n := range all {
		if n.Name == name || n.Name == bridgeNetwork && name == network.ModePrivate {
			return n, nil
		}
	}
	if i := slices.IndexFunc(all, func(n networkRow) bool { return name != "" && strings.HasPrefix(n.fullID, name) }); i >= 0 {
		return all[i], nil
	}
	return networkRow{}, &hintError{fmt.Errorf("network %s not found", name), "nacre network ls lists what there is"}
}

func networkListCommand(a *app) *cobra.Command {
	var quiet, noTrunc bool
	var filters []string
	var format string
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List networks",
		Example: "  nacre network ls\n  nacre network ls --format '{{.Name}} {{.Driver}}'",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			keep, err := networkFilter(filters)
			if err != nil {
				return err
			}
			var rows []networkRow
			for _, n := range networks() {
				if !keep(n) {
					continue
				}
				if noTrunc {
					n.ID = n.fullID
				}
				rows = append(rows, n)
			}
			if quiet && format == "" {
				format = "{{.ID}}"
			}
			return render(a.stdout, format, []column{{"NETWORK ID", "ID"}, {"NAME", "Name"}, {"DRIVER", "Driver"}, {"SCOPE", "Scope"}}, rows)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&quiet, "quiet", "q", false, "print IDs and nothing else")
	fl.BoolVar(&noTrunc, "no-trunc", false, "do not shorten IDs")
	listVar(fl, &filters, "filter", "f", "dangling=BOOL, driver=DRIVER, id=ID, label=KEY, name=PART, scope=SCOPE or type=builtin|custom")
	fl.StringVar(&format, "format", "", `"table", "json", "table TEMPLATE" or a Go template`)
	return cmd
}

// networkFilter reads --filter: of one key any value may fit, of several all.
func networkFilter(filters []string) (func(networkRow) bool, error) {
	values := map[string][]string{}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("--filter %q: want KEY=VALUE", f)
		}
		if key == "dangling" {
			if _, err := strconv.ParseBool(value); err != nil {
				return nil, fmt.Errorf("--filter dangling=%s: want true or false", value)
			}
		} else if !slices.Contains([]string{"driver", "id", "label", "name", "scope", "type"}, key) {
			return nil, fmt.Errorf("--filter %s: unknown; want dangling, driver, id, label, name, scope or type", key)
		}
		values[key] = append(values[key], value)
	}
	return func(n networkRow) bool {
		for key, list := range values {
			if !slices.ContainsFunc(list, func(value string) bool { return fitsNetwork(n, key, value) }) {
				return false
			}
		}
		return true
	}, nil
}

// fitsNetwork tells of one filter. These networks are nobody's to remove: none is dangling, and none has labels.
func fitsNetwork(n networkRow, key, value string) bool {
	switch key {
	case "driver":
		return n.Driver == value
	case "id":
		return strings.HasPrefix(n.fullID, value)
	case "name":
		return strings.Contains(n.Name, value)
	case "scope":
		return n.Scope == value
	case "type":
		return value == "builtin"
	case "dangling":
		dangling, _ := strconv.ParseBool(value)
		return !dangling
	}
	return false
}

// networkDetail is a network as docker's inspect shows it (Engine API, NetworkInspect).
type networkDetail struct {
	Name       string
	ID         string `json:"Id"`
	Created    string
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       networkRanges
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]networkMember
	Options    map[string]string
	Labels     map[string]string
}

type networkRanges struct {
	Driver  string
	Options map[string]string
	Config  []networkRange
}

type networkRange struct{ Subnet, Gateway string }

type networkMember struct {
	Name, EndpointID, MacAddress, IPv4Address, IPv6Address string
}

func networkInspectCommand(a *app) *cobra.Command {
	var format string
	var verbose bool
	cmd := &cobra.Command{
		Use:     "inspect [OPTIONS] NETWORK [NETWORK...]",
		Short:   "Show all that is known of networks, and the running containers in them, as JSON",
		Example: "  nacre network inspect bridge\n  nacre network inspect -f '{{(index .IPAM.Config 0).Gateway}}' bridge",
		Args:    minArgs(1, "inspect needs a network"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{bridgeNetwork, network.ModeHost, network.ModeNone}, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInspect(a, format, args, func(name string) (any, error) { return a.inspectOneNetwork(cmd.Context(), name) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `"json" or a Go template`)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "accepted for docker's sake: there is no more to say")
	cmd.Flags().MarkHidden("verbose")
	return cmd
}

func (a *app) inspectOneNetwork(ctx context.Context, name string) (any, error) {
	n, err := findNetwork(name)
	if err != nil {
		return nil, err
	}
	cs, err := a.containers(ctx)
	if err != nil {
		return nil, err
	}
	list, err := cs.List(ctx)
	if err != nil {
		return nil, err
	}
	v := networkDetail{
		Name: n.Name, ID: n.fullID, Created: bootTime().UTC().Format(time.RFC3339Nano), Scope: n.Scope, Driver: n.Driver, EnableIPv4: n.IPv4 == "true",
		IPAM: networkRanges{Driver: "default", Config: []networkRange{}}, Containers: map[string]networkMember{}, Options: map[string]string{}, Labels: map[string]string{},
	}
	for _, c := range list {
		if c.State.Status.Alive() && networkName(c.Config.Network) == n.Name {
			v.Containers[c.ID] = member(c)
		}
	}
	if n.Name == bridgeNetwork {
		if at, ok := network.BridgeAddress(); ok { // else no container has needed it yet, or none can have it
			v.IPAM.Config = append(v.IPAM.Config, networkRange{Subnet: at.Masked().String(), Gateway: at.Addr().String()})
			v.Options["com.docker.network.bridge.name"] = network.BridgeDevice
		}
	}
	return v, nil
}

// member is a container as the network shows it.
func member(c *container.Container) networkMember {
	m := networkMember{Name: c.Name, MacAddress: c.State.Network.MAC}
	if ip := c.State.Network.IP; ip != "" {
		m.IPv4Address = fmt.Sprintf("%s/%d", ip, c.State.Network.Bits)
	}
	return m
}

func networkRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NETWORK [NETWORK...]",
		Aliases: []string{"remove"},
		Hidden:  true,
		Short:   "Refused: the networks there are cannot be removed",
		Example: "  nacre network rm bridge",
		Args:    minArgs(1, "rm needs a network"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var failed several
			for _, name := range args {
				_, err := findNetwork(name)
				if err == nil {
					err = fmt.Errorf("%s is a pre-defined network and cannot be removed", name)
				}
				failed = append(failed, err)
			}
			return failed.orNil()
		},
	}
}

// networkPruneCommand is for scripts that clean up: there is never a network that nobody uses and that could go.
func networkPruneCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "prune [OPTIONS]",
		Hidden:  true,
		Short:   "Remove networks that nobody uses: there are none",
		Example: "  nacre network prune -f",
		Args:    noArgs,
		RunE:    func(*cobra.Command, []string) error { return nil },
	}
	cmd.Flags().BoolP("force", "f", false, "do not ask")
	cmd.Flags().String("filter", "", "which of them")
	return cmd
}

// noNetworksCommand is a command of docker's on networks of one's own.
func noNetworksCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Hidden:             true,
		DisableFlagParsing: true,
		Short:              "Refused: there are no networks of one's own",
		Example:            "  nacre network ls",
		RunE: func(*cobra.Command, []string) error {
			return &hintError{errors.New("there are no networks of one's own"),
				"containers on the bridge reach each other by address; --network container:NAME shares a container's network, and --add-host gives names"}
		},
	}
}
