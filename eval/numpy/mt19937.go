package numpy

// MT19937 is the legacy generator of numpy.random.seed and RandomState.
type MT19937 struct {
	state [624]uint32
	next  int
}

// NewMT19937 is RandomState(seed).
func NewMT19937(seed uint32) *MT19937 {
	m := &MT19937{next: 624}
	for i := range m.state {
		m.state[i] = seed
		seed = 1812433253*(seed^seed>>30) + uint32(i) + 1
	}
	return m
}

// Uint32 is the next 32 bits.
func (m *MT19937) Uint32() uint32 {
	if m.next == len(m.state) {
		m.refill()
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (m *MT19937) refill() {
	const n, shift = 624, 397
	for i := range n {
		y := m.state[i]&0x80000000 | m.state[(i+1)%n]&0x7fffffff
		v := m.state[(i+shift)%n] ^ y>>1
		if y&1 != 0 {
			v ^= 0x9908b0df
		}
		m.state[i] = v
	}
	m.next = 0
}

// below draws from 0 to n inclusive, masking and rejecting.
func (m *MT19937) below(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	mask := n
	for s := 1; s < 32; s *= 2 {
		mask |= mask >> s
	}
	for {
		if v := m.Uint32() & mask; v <= n {
			return v
		}
	}
}

// Choice fills dst as choice(arange(n), size=len(dst)) does.
func (m *MT19937) Choice(dst []int32, n int) {
	for i := range dst {
		dst[i] = int32(m.below(uint32(n - 1)))
	}
}
