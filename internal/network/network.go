// Package network gives containers their network: which one, the way out of it, ports of
// the host that lead into it, and the files that say how names are found.
package network
