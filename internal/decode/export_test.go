package decode

// Distribution is distribution for tests.
func Distribution(logits []float32, o Options) (ids []int32, weights []float64) {
	d := distribution(logits, o)
	return d.ids, d.weights
}
