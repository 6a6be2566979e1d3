package curves

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Least size of a drawing as text.
const (
	leastWidth  = 24
	leastHeight = 4
)

// Text draws a panel with letters, one for each run, in so many columns and rows; the title and the
// two lines of the axis come on top of the rows. Where curves meet, the later run is seen.
func Text(p Panel, width, height int) string {
	from, to, low, high, ok := p.bounds()
	if !ok {
		return p.Title + ": nothing was logged\n"
	}
	top, bottom := figure(high), figure(low)
	margin := max(len(top), len(bottom))
	columns, rows := max(width, leastWidth)-margin-2, max(height, leastHeight)
	grid := make([][]byte, rows)
	for i := range grid {
		grid[i] = []byte(strings.Repeat(" ", columns))
	}
	for i, s := range p.Series {
		for column, value := range s.columns(from, to, columns) {
			if !math.IsNaN(value) {
				grid[row(value, low, high, rows)][column] = mark(i)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", p.Title)
	for i, line := range grid {
		label := ""
		switch i {
		case 0:
			label = top
		case rows - 1:
			label = bottom
		}
		fmt.Fprintf(&b, "%*s |%s\n", margin, label, strings.TrimRight(string(line), " "))
	}
	fmt.Fprintf(&b, "%*s +%s\n", margin, "", strings.Repeat("-", columns))
	left, right := strconv.Itoa(from), strconv.Itoa(to)
	fmt.Fprintf(&b, "%*s  %s%*s\n", margin, "", left, max(columns-len(left), len(right)+1), right)
	return b.String()
}

// Legend names the letters of Text.
func Legend(runs []Run) string {
	var b strings.Builder
	for i, r := range runs {
		fmt.Fprintf(&b, "%c  %s\n", mark(i), r.Name)
	}
	return b.String()
}

// mark is the letter of a run.
func mark(i int) byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return letters[i%len(letters)]
}

// columns gives a curve's mean value in each column; between two that have points it lies on the
// straight line, outside of them it is NaN.
func (s Series) columns(from, to, n int) []float64 {
	sum, count := make([]float64, n), make([]int, n)
	for _, p := range s.Points {
		column := (n - 1) / 2
		if to > from {
			column = int(math.Round(float64(p.Step-from) / float64(to-from) * float64(n-1)))
		}
		sum[column] += p.Value
		count[column]++
	}
	last := -1
	for i := range n {
		if count[i] == 0 {
			sum[i] = math.NaN()
			continue
		}
		sum[i] /= float64(count[i])
		for j := last + 1; last >= 0 && j < i; j++ {
			sum[j] = sum[last] + (sum[i]-sum[last])*float64(j-last)/float64(i-last)
		}
		last = i
	}
	return sum
}

// row is where a value stands, 0 at the top.
func row(value, low, high float64, rows int) int {
	if high <= low {
		return rows / 2
	}
	return int(math.Round((high - value) / (high - low) * float64(rows-1)))
}

// figure shows a number in four digits.
func figure(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
