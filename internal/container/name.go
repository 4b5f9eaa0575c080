package container

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// ValidName tells whether docker would take s as a container's name:
// [a-zA-Z0-9][a-zA-Z0-9_.-]+
func ValidName(s string) bool {
	for i, r := range s {
		word := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !word && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return len(s) > 1
}

// What random names are made of: how shells and the sea may be, and people who looked into them, into
// light, or into computing.
const (
	adjectives = "agate amber azure banded beaded bold brave bright briny calm candid clear coral cosy crisp curled deep " +
		"dappled eager easy fair fluted folded frank gentle gleaming glossy golden grand happy hardy iridescent keen kind limpid lively loyal lucid " +
		"lustrous mellow merry milky misty modest nimble noble opal pale patient pearly placid polished proud quick quiet " +
		"ribbed rosy round salty serene shining silver smooth speckled spiral steady still sturdy swift tidal tranquil upright " +
		"velvet vivid warm wavy wise witty"
	surnames = "agnesi alder anning arago banks barbut bassi bose brewster bragg carson clarke cousteau cuvier dance darwin dijkstra " +
		"earle ekman fermat fizeau floyd forbes franklin fresnel gould grimaldi haeckel hamilton haldane hodgkin hooke hopper huygens iversen " +
		"jeffreys johnson kahn kelvin kepler knuth kovalevskaya lamarck lamarr leavitt linnaeus lister liskov lovelace malus maury maxwell merian michelson " +
		"naur neumann noether perlman poli raman rathbun rayleigh ritchie sars shannon snell somerville sowerby stokes swammerdam tharp " +
		"thompson turing tyndall verrill wheeler wilkes wirth young"
)

// randomName makes up a name; after some that were taken, with a number.
func randomName(try int) string {
	pick := func(words string) string {
		list := strings.Fields(words)
		return list[rand.IntN(len(list))]
	}
	name := pick(adjectives) + "_" + pick(surnames)
	if try > 0 {
		name += strconv.Itoa(rand.IntN(10 << min(3*try, 24)))
	}
	return name
}
