package numpy

// Float64 is random(): 53 bits in [0, 1).
func (p *PCG64) Float64() float64 { return float64(p.Uint64()>>11) * (1.0 / (1 << 53)) }

// Float64 is random_sample(): 53 bits in [0, 1).
func (m *MT19937) Float64() float64 {
	a, b := m.Uint32()>>5, m.Uint32()>>6
	return (float64(a)*67108864 + float64(b)) / 9007199254740992
}

// Permutation is permutation(n).
func (m *MT19937) Permutation(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := m.below(uint32(i))
		p[i], p[j] = p[j], p[i]
	}
	return p
}
