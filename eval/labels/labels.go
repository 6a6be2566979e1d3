// Package labels scores classification and regression as scikit-learn and SciPy do in T5's evaluation
// of GLUE and SuperGLUE. Labels are numbers; what a model wrote that is no label is a number that no
// target has.
package labels

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/t5ctl/t5ctl/eval/numpy"
	"github.com/t5ctl/t5ctl/eval/pytext"
)

// Accuracy is the share of predictions that are right.
func Accuracy(targets, predictions []int) float64 {
	right := 0
	for i, t := range targets {
		if predictions[i] == t {
			right++
		}
	}
	return float64(right) / float64(len(targets))
}

// Present are the labels that occur, in order.
func Present(targets, predictions []int) []int {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(targets, predictions))))
}

// Confusion counts, for each label in a row, which labels were predicted for it. Rows and columns are
// in the order of labels; what is none of them is left out.
func Confusion(targets, predictions, labels []int) [][]int {
	out := make([][]int, len(labels))
	for i := range out {
		out[i] = make([]int, len(labels))
	}
	for i, t := range targets {
		r, c := slices.Index(labels, t), slices.Index(labels, predictions[i])
		if r >= 0 && c >= 0 {
			out[r][c]++
		}
	}
	return out
}

// MCC is Matthews' correlation coefficient for any number of classes; 0 where it is undefined.
func MCC(targets, predictions []int) float64 {
	labels := Present(targets, predictions)
	c := Confusion(targets, predictions, labels)
	var right, tt, pp, tp, n float64
	for i := range labels {
		var t, p float64
		for j := range labels {
			t += float64(c[i][j])
			p += float64(c[j][i])
		}
		right += float64(c[i][i])
		n += t
		tt += t * t
		pp += p * p
		tp += t * p
	}
	product := (n*n - tt) * (n*n - pp)
	if product == 0 {
		return 0
	}
	return (right*n - tp) / math.Sqrt(product)
}

// Scores are those of one label or of an average; division by zero gives 0.
type Scores struct {
	Precision, Recall, F1 float64
	Support               int
}

func scores(right, predicted, support int) Scores {
	s := Scores{Support: support}
	if predicted > 0 {
		s.Precision = float64(right) / float64(predicted)
	}
	if support > 0 {
		s.Recall = float64(right) / float64(support)
	}
	if predicted+support > 0 {
		s.F1 = 2 * float64(right) / float64(predicted+support)
	}
	return s
}

// PerLabel gives the scores of each label.
func PerLabel(targets, predictions, labels []int) []Scores {
	out := make([]Scores, len(labels))
	for k, label := range labels {
		right, predicted, support := counts(targets, predictions, label)
		out[k] = scores(right, predicted, support)
	}
	return out
}

func counts(targets, predictions []int, label int) (right, predicted, support int) {
	for i, t := range targets {
		if t == label {
			support++
		}
		if predictions[i] == label {
			predicted++
			if t == label {
				right++
			}
		}
	}
	return right, predicted, support
}

// Micro averages over all decisions, Macro over labels, Weighted over labels by their support.
func Micro(targets, predictions, labels []int) Scores {
	var right, predicted, support int
	for _, label := range labels {
		r, p, s := counts(targets, predictions, label)
		right, predicted, support = right+r, predicted+p, support+s
	}
	return scores(right, predicted, support)
}

// Macro is the plain mean over labels.
func Macro(targets, predictions, labels []int) Scores {
	return average(PerLabel(targets, predictions, labels), func(Scores) float64 { return 1 })
}

// Weighted is the mean over labels, each as often as it is a target.
func Weighted(targets, predictions, labels []int) Scores {
	return average(PerLabel(targets, predictions, labels), func(s Scores) float64 { return float64(s.Support) })
}

func average(per []Scores, weight func(Scores) float64) Scores {
	var p, r, f, w []float64
	for _, s := range per {
		x := weight(s)
		p, r, f, w = append(p, s.Precision*x), append(r, s.Recall*x), append(f, s.F1*x), append(w, x)
	}
	total := numpy.Sum(w)
	if total == 0 {
		return Scores{}
	}
	return Scores{Precision: numpy.Sum(p) / total, Recall: numpy.Sum(r) / total, F1: numpy.Sum(f) / total}
}

// BalancedAccuracy is the mean recall over the labels that are targets.
func BalancedAccuracy(targets, predictions []int) float64 {
	var recalls []float64
	for _, s := range PerLabel(targets, predictions, Present(targets, predictions)) {
		if s.Support > 0 {
			recalls = append(recalls, s.Recall)
		}
	}
	return numpy.Mean(recalls)
}

// BinaryF1 is the F1 of label 1. A prediction that is neither 0 nor 1 counts as the wrong one of them,
// so that garbage never helps.
func BinaryF1(targets, predictions []int) float64 {
	fixed := slices.Clone(predictions)
	for i, p := range fixed {
		if p != 0 && p != 1 {
			fixed[i] = 1 - targets[i]
		}
	}
	right, predicted, support := counts(targets, fixed, 1)
	return scores(right, predicted, support).F1
}

// Pearson is the correlation of two lists; not a number where one is constant or too short.
func Pearson(x, y []float64) float64 {
	if len(x) < 2 {
		return math.NaN()
	}
	xm, xn := centered(x)
	ym, yn := centered(y)
	if xn == 0 || yn == 0 {
		return math.NaN()
	}
	r := 0.0
	for i := range xm {
		r += float64((xm[i] / xn) * (ym[i] / yn))
	}
	return math.Max(-1, math.Min(1, r))
}

func centered(x []float64) (out []float64, norm float64) {
	if slices.Min(x) == slices.Max(x) {
		return nil, 0
	}
	mean := numpy.Mean(x)
	for _, v := range x {
		out = append(out, v-mean)
		norm += float64((v - mean) * (v - mean))
	}
	return out, math.Sqrt(norm)
}

// Spearman is the correlation of ranks; ties share their mean rank.
func Spearman(x, y []float64) float64 { return Pearson(ranks(x), ranks(y)) }

func ranks(x []float64) []float64 {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case x[a] < x[b]:
			return -1
		case x[a] > x[b]:
			return 1
		}
		return 0
	})
	out := make([]float64, len(x))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && x[order[j]] == x[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			out[k] = float64(i+j+1) / 2
		}
		i = j
	}
	return out
}

// ParseFloat reads a number as Python's float() does: white space around it, underscores between
// digits, digits of any script, inf and nan, but no hexadecimal.
func ParseFloat(text string) (float64, bool) {
	var b strings.Builder
	for _, r := range pytext.Trim(text) {
		if r > unicode.MaxASCII && unicode.Is(unicode.Nd, r) {
			r = '0' + digitValue(r)
		}
		b.WriteRune(r)
	}
	s := b.String()
	for i := range len(s) {
		if s[i] == '_' && (i == 0 || i == len(s)-1 || !asciiDigit(s[i-1]) || !asciiDigit(s[i+1])) {
			return 0, false
		}
	}
	s = strings.ReplaceAll(s, "_", "")
	if strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) { // too large is infinite, in Python too
		return 0, false
	}
	return f, true
}

func asciiDigit(c byte) bool { return '0' <= c && c <= '9' }

// digitValue is a decimal digit's value: digits of a script stand ten in a row.
func digitValue(r rune) rune {
	v := rune(0)
	for v < 9 && unicode.Is(unicode.Nd, r-v-1) {
		v++
	}
	if unicode.Is(unicode.Nd, r-v-1) { // two scripts side by side, as in the mathematical digits
		return (r - 0x1D7CE) % 10
	}
	return v
}
