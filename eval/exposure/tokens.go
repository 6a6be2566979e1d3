package exposure

import (
	"bytes"
	"compress/zlib"
	"math"
	"slices"
)

// TokenScores is what a model says of the tokens of one target, its end included: natural
// logarithms of their probabilities, and mean and variance of such logarithms under the model's
// own distribution at each place.
type TokenScores struct {
	LogProbs []float64
	Mean     []float64
	Variance []float64
	Best     []bool // the token is the likeliest there: greedy search takes it
}

// Sum is the logarithm of the whole target's probability.
func (t TokenScores) Sum() float64 {
	sum := 0.0
	for _, p := range t.LogProbs {
		sum += p
	}
	return sum
}

// Loss is the mean of -log p: the score of the loss attack is its negative.
func (t TokenScores) Loss() float64 { return -t.Sum() / float64(len(t.LogProbs)) }

// Bits is the log-perplexity.
func (t TokenScores) Bits() float64 { return -t.Sum() / math.Ln2 }

// Perplexity is e to the loss.
func (t TokenScores) Perplexity() float64 { return math.Exp(t.Loss()) }

// Ratio compares with a reference model's scores of the same target.
func (t TokenScores) Ratio(reference TokenScores) float64 { return reference.Loss() - t.Loss() }

// MinK is the mean of the least likely tokens' logarithms, percent of all of them but at least one
// (Min-K%, Shi and others 2023).
func (t TokenScores) MinK(percent int) float64 { return lowest(t.LogProbs, percent) }

// MinKPlus is MinK of logarithms that mean and deviation of their place standardize (Min-K%++,
// Zhang and others 2024).
func (t TokenScores) MinKPlus(percent int) float64 {
	z := make([]float64, len(t.LogProbs))
	for i, p := range t.LogProbs {
		z[i] = (p - t.Mean[i]) / math.Sqrt(math.Max(t.Variance[i], leastVariance))
	}
	return lowest(z, percent)
}

// leastVariance keeps a place where the model is certain from dividing by 0.
const leastVariance = 1e-12

func lowest(x []float64, percent int) float64 {
	n := max(1, len(x)*percent/100)
	return mean(slices.Sorted(slices.Values(x))[:n])
}

// PerByte is the logarithm of the probability for each byte that a compressor needs for the text.
func (t TokenScores) PerByte(compressed int) float64 { return t.Sum() / float64(compressed) }

// Compressor names the one of CompressedLength. Another gives other lengths: C's zlib too.
const Compressor = "go-zlib-6"

// CompressedLength is how many bytes the text takes as a zlib stream of level 6.
func CompressedLength(text string) int {
	var b bytes.Buffer
	z, _ := zlib.NewWriterLevel(&b, 6) // the level is a valid one
	_, _ = z.Write([]byte(text))       // a buffer takes everything
	_ = z.Close()
	return b.Len()
}

// Phi is log(p/(1-p)) of the mean token probability e^-loss: nearly normal over models that did or
// did not see the text, which LiRA counts on.
func (t TokenScores) Phi() float64 {
	loss := math.Max(t.Loss(), 1e-12)
	return -loss - math.Log(-math.Expm1(-loss))
}
