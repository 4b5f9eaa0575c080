package bridge

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// table is ours alone, in the family ip:
//
//	chain postrouting { type nat hook postrouting priority srcnat
//	        ip saddr RANGE oifname != "nacre0" masquerade }
//	chain forward { type filter hook forward priority filter
//	        oifname "nacre0" iifname != "nacre0" ct state established,related accept
//	        oifname "nacre0" iifname != "nacre0" drop }
//
// The second chain keeps others from reaching, through this host, what no port was published for.
const table = "nacre"

// tableVersion is kept beside the first rule, with the range: a table that says something else is replaced.
const tableVersion = "nacre 1 "

// ensureTable makes the table, if it is not there as it should be.
func ensureTable(r netip.Prefix) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	defer c.CloseLasting()
	t := &nftables.Table{Name: table, Family: nftables.TableFamilyIPv4}
	nat := &nftables.Chain{
		Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}
	forward := &nftables.Chain{
		Name: "forward", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	}
	mark := tableVersion + r.String()
	if isAsMade(c, t, nat, 1, mark) && isAsMade(c, t, forward, 2, mark) {
		return nil
	}
	c.AddTable(t) // so that it can be deleted
	c.DelTable(t)
	c.AddTable(t)
	c.AddChain(nat)
	c.AddChain(forward)
	c.AddRule(&nftables.Rule{Table: t, Chain: nat, UserData: []byte(mark), Exprs: masquerade(r)})
	c.AddRule(&nftables.Rule{Table: t, Chain: forward, UserData: []byte(mark), Exprs: append(fromOutside(), answers()...)})
	c.AddRule(&nftables.Rule{Table: t, Chain: forward, UserData: []byte(mark), Exprs: append(fromOutside(), &expr.Verdict{Kind: expr.VerdictDrop})})
	return c.Flush()
}

// isAsMade tells whether a chain has as many rules as it should, all with our mark.
func isAsMade(c *nftables.Conn, t *nftables.Table, chain *nftables.Chain, count int, mark string) bool {
	rules, err := c.GetRules(t, chain)
	if err != nil || len(rules) != count {
		return false
	}
	for _, r := range rules {
		if string(r.UserData) != mark {
			return false
		}
	}
	return true
}

func masquerade(r netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}, // saddr
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(r.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: r.Addr().AsSlice()},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname()},
		&expr.Masq{},
	}
}

// fromOutside matches what comes to the bridge from elsewhere.
func fromOutside() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname()},
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname()},
	}
}

// answers accepts what belongs to connections from inside.
func answers() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

func ifname() []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, Name)
	return b
}

// chainDrops tells whether the chain that iptables keeps in nftables drops by default.
func chainDrops() bool {
	c, err := nftables.New()
	if err != nil {
		return false
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false
	}
	for _, ch := range chains {
		if ch.Table.Name == "filter" && ch.Name == "FORWARD" && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
			return true
		}
	}
	return false
}
