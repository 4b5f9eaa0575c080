package layer

import (
	"encoding/binary"
	"iter"
	"math/bits"
)

const (
	// denseSize is the unit in which content is judged.
	denseSize = 4 << 10
	// denseRun is how much in a row has to be dense to be stored: what follows is compressed
	// without looking back beyond it, unless it repeats some of it, which costs a little.
	denseRun = 8 << 10
	// repeatStep is the distance of places that are remembered. Any repetition of
	// repeatStep+8 bytes covers one of them.
	repeatStep = 64
	repeatBits = 12
)

// run is a part of a block that is encoded in one way.
type run struct {
	data  []byte
	dense bool   // it would not become smaller
	dict  []byte // what else goes before it and is worth looking back into
}

// runs cuts a block, which before goes before, into those that are dense and those that are
// not: archives, pictures and packages are compressed already, and trying again takes most of the time.
// What is where depends on the bytes alone.
func runs(before, block []byte) iter.Seq[run] {
	return func(yield func(run) bool) {
		r := newRepeats(before, block)
		dict := before
		begin, from := 0, 0 // of what was not yielded yet; of the dense pieces at its end
		// cut yields what there is up to the dense pieces that end at at, and these.
		cut := func(at int) bool {
			if from > begin && !yield(run{block[begin:from], false, dict}) {
				return false
			}
			begin, dict = at, nil
			return yield(run{block[from:at], true, nil})
		}
		for at := 0; at < len(block); at += denseSize {
			end := min(at+denseSize, len(block))
			dense := end-at == denseSize && uniform(block[at:end])
			seen := dense && r.seen(at)
			r.add(at, end)
			if dense && !seen {
				continue
			}
			if at-from >= denseRun && !cut(at) {
				return
			}
			if seen && dict == nil {
				dict = block[max(0, begin-gzipBack):begin]
			}
			from = end
		}
		if len(block)-from >= denseRun {
			cut(len(block))
		} else if begin < len(block) {
			yield(run{block[begin:], false, dict})
		}
	}
}

// uniform tells whether all bytes are about equally frequent in a piece of denseSize, as in what is random. Most
// other pieces are found out by their first bytes.
func uniform(p []byte) bool {
	var n [256]uint16
	done := 0
	for _, end := range [...]int{denseSize / 8, denseSize} {
		for _, c := range p[done:end] {
			n[c]++
		}
		done = end
		// The sum of squares of how far counts are from their mean, times 256: for random bytes it
		// is 256 times their number on average, and a tenth more or less. At 1.4 times that
		// Huffman's codes would save 0.02 bits a byte.
		sum := 0
		for _, v := range n {
			d := int(v)*256 - end
			sum += d * d
		}
		if limit := 256 * end * 256; sum > limit+limit*2/5 {
			return false
		}
	}
	return true
}

// repeats knows what was in a block so far, and before it, to tell what repeats it.
type repeats struct {
	before, block []byte
	at            [1 << repeatBits]int32 // place in block, below 0 before it, plus 1<<30; by hash
}

func newRepeats(before, block []byte) *repeats {
	r := &repeats{before: before, block: block}
	r.add(-len(before)/repeatStep*repeatStep, 0)
	return r
}

// word is 8 bytes at a place, which is a multiple of repeatStep where it is below 0.
func (r *repeats) word(at int) uint64 {
	if at < 0 {
		return binary.LittleEndian.Uint64(r.before[len(r.before)+at:])
	}
	return binary.LittleEndian.Uint64(r.block[at:])
}

func repeatHash(word uint64) int { return int(word * 0x9E3779B97F4A7C15 >> (64 - repeatBits)) }

const repeatZero = 1 << 30

// add remembers the places from one multiple of repeatStep to the end.
func (r *repeats) add(from, end int) {
	for at := from; at < end && at+8 <= len(r.block); at += repeatStep {
		r.at[repeatHash(r.word(at))] = int32(at + repeatZero)
	}
}

// seen tells whether what begins at a place repeats something in the window.
func (r *repeats) seen(at int) bool {
	for p := at; p < at+repeatStep; p++ {
		word := r.word(p)
		if was := int(r.at[repeatHash(word)]) - repeatZero; was > p-gzipBack && r.word(was) == word {
			return true
		}
	}
	return false
}

// codeTable is about what the description of codes takes.
const codeTable = 100

// entropy is the bytes that data takes at least when each byte value has a code of its own (Shannon's, of
// order 0). It is reckoned in whole numbers, so that it is the same on every machine.
func entropy(data []byte) int {
	var n [256]uint32
	for _, c := range data {
		n[c]++
	}
	sum, all := uint64(0), log2(uint32(len(data)))
	for _, v := range n {
		if v > 0 {
			sum += uint64(v) * (all - log2(v))
		}
	}
	return int(sum >> (log2Bits + 3))
}

// log2Bits are the binary places of log2.
const log2Bits = 16

// log2 is the logarithm of a number above 0.
func log2(x uint32) uint64 {
	n := bits.Len32(x) - 1
	y := uint64(x) << (31 - n) // 1 to 2, with 31 binary places
	log := uint64(n)
	for range log2Bits {
		y, log = y*y>>31, log<<1
		if y >= 1<<32 {
			y, log = y>>1, log|1
		}
	}
	return log
}
