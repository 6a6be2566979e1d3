package datasets

// SpanMask is spanMask with a source of chance of its own.
func SpanMask(n int, density, meanSpan float64, seed uint64) []bool {
	return spanMask(n, density, meanSpan, newRandom(forNoise, seed))
}
