package matvec_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/t5ctl/t5ctl/internal/matvec"
)

func random(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	return values
}

// The product is held against plain sums in float64; what bf16 and int8 may lose is bounded by
// half a step of each weight, and in int8 of each input.
func TestMulAgreesWithPlainSums(t *testing.T) {
	for _, size := range []struct{ rows, out, in int }{{1, 32, 16}, {1, 40, 33}, {3, 100, 130}, {4, 7, 512}, {8, 64, 300}, {21, 129, 257}} {
		w, x := random(size.out*size.in, 3), random(size.rows*size.in, 4)
		for _, kind := range []matvec.Kind{matvec.Float32, matvec.BFloat16, matvec.Int8} {
			t.Run(fmt.Sprint(size, kind), func(t *testing.T) {
				half := size.out / 2 * size.in
				m, err := matvec.Pack(kind, size.in, w[:half], w[half:])
				if err != nil {
					t.Fatal(err)
				}
				y := make([]float32, size.rows*size.out)
				m.Mul(y, x, size.rows)
				for i := range y {
					row, out := i/size.out, i%size.out
					want, slack := expected(x[row*size.in:(row+1)*size.in], w[out*size.in:(out+1)*size.in], kind)
					if math.Abs(float64(y[i])-want) > slack {
						t.Fatalf("y[%d, %d] is %g, want %g ± %g", row, out, y[i], want, slack)
					}
				}
			})
		}
	}
}

// expected is the exact product and how far off the kind may be.
func expected(x, w []float32, kind matvec.Kind) (sum, slack float64) {
	largest, most := 0.0, 0.0
	for k, v := range w {
		largest, most = max(largest, math.Abs(float64(v))), max(most, math.Abs(float64(x[k])))
	}
	for k := range x {
		sum += float64(x[k]) * float64(w[k])
		size := math.Abs(float64(x[k]))
		switch kind {
		case matvec.Float32:
			slack += 1e-6 * size * math.Abs(float64(w[k]))
		case matvec.BFloat16:
			slack += size * math.Abs(float64(w[k])) / 256
		case matvec.Int8:
			slack += size*largest/254 + math.Abs(float64(w[k]))*most/254 + largest*most/254/254
		}
	}
	return sum, slack*1.01 + 1e-5
}

// A product of bytes is exact: whole numbers times whole powers of two.
func TestMulOfBytesIsExact(t *testing.T) {
	const rows, out, in = 11, 70, 333
	rng := rand.New(rand.NewPCG(9, 9))
	whole := func(n int) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(rng.IntN(255) - 127)
		}
		return values
	}
	w, x := whole(out*in), whole(rows*in)
	for i := range out {
		w[i*in] = 127 // so that the scale is 1
	}
	for i := range rows {
		x[i*in+3] = -127
	}
	m, err := matvec.Pack(matvec.Int8, in, w)
	if err != nil {
		t.Fatal(err)
	}
	y := make([]float32, rows*out)
	m.Mul(y, x, rows)
	for i := range y {
		want := 0
		for k := range in {
			want += int(x[i/out*in+k]) * int(w[i%out*in+k])
		}
		if y[i] != float32(want) {
			t.Fatalf("y[%d, %d] is %g, want %d", i/out, i%out, y[i], want)
		}
	}
}

// Attend is held against the same sums in float64.
func TestAttend(t *testing.T) {
	for _, c := range []struct{ positions, size, rows int }{{1, 8, 1}, {33, 64, 4}, {128, 16, 5}, {70, 40, 9}} {
		stride := c.size + 5
		keys, values, queries := random(c.positions*stride, 1), random(c.positions*stride, 2), random(c.rows*stride, 3)
		mask := make([]float32, c.positions)
		if c.positions > 3 {
			mask[2] = -1e9
		}
		out, biases := make([]float32, c.rows*stride), random(c.rows*c.positions, 4)
		matvec.NewMemory(keys, values, c.positions, c.size, stride).Attend(out, stride, queries, stride, c.rows, mask, func(row int) []float32 {
			return biases[row*c.positions:][:c.positions]
		})
		for row := range c.rows {
			total, want := 0.0, make([]float64, c.size)
			for p := range c.positions {
				score := float64(mask[p]) + float64(biases[row*c.positions+p])
				for d := range c.size {
					score += float64(queries[row*stride+d]) * float64(keys[p*stride+d])
				}
				weight := math.Exp(score)
				total += weight
				for d := range want {
					want[d] += weight * float64(values[p*stride+d])
				}
			}
			for d := range want {
				if math.Abs(float64(out[row*stride+d])-want[d]/total) > 1e-4 {
					t.Errorf("%v: out[%d, %d] is %g, want %g", c, row, d, out[row*stride+d], want[d]/total)
				}
			}
		}
	}
}

// Above, Product, Positive and Scale, over lengths that vectors do not divide.
func TestElementwise(t *testing.T) {
	for _, n := range []int{1, 16, 37} {
		a, b := random(n, 4), random(n, 5)
		product, positive, scaled := make([]float32, n), make([]float32, n), append([]float32{}, a...)
		matvec.Product(product, a, b, 3)
		matvec.Positive(positive, a)
		matvec.Scale(scaled, 0.5)
		for i := range a {
			if product[i] != a[i]*3*b[i] || positive[i] != max(a[i], 0) || scaled[i] != a[i]*0.5 {
				t.Errorf("n %d, %d: %g %g %g of %g and %g", n, i, product[i], positive[i], scaled[i], a[i], b[i])
			}
		}
		for from := range n {
			want := from
			for want < n && a[want]+1 <= 1.5 {
				want++
			}
			if got := matvec.Above(a, from, 1, 1.5); got != want {
				t.Errorf("n %d: above from %d is %d, want %d", n, from, got, want)
			}
		}
	}
}

func TestPackRefusesRaggedWeights(t *testing.T) {
	if _, err := matvec.Pack(matvec.Float32, 3, make([]float32, 7)); err == nil {
		t.Error("7 weights for 3 inputs were packed")
	}
}

func TestExponentials(t *testing.T) {
	x := []float32{-200, -103, -88, -87, -20, -1, -1e-3, 0, 1e-4, 0.5, 1, 3, 20, 60, 80, 87, -0.3, 2}
	got := append([]float32{}, x...)
	total := matvec.Exp(got, 1)
	sum := 0.0
	for i, v := range x {
		want := math.Exp(float64(v) - 1)
		sum += want
		if math.Abs(float64(got[i])-want) > 3e-7*want+1e-37 {
			t.Errorf("exp(%g) = %g, want %g", v-1, got[i], want)
		}
	}
	if math.Abs(float64(total)-sum) > 1e-6*sum {
		t.Errorf("the sum is %g, want %g", total, sum)
	}
	y := random(1003, 5)
	shifted := append([]float32{}, y...)
	matvec.LogSoftmax(shifted)
	all := 0.0
	for _, v := range y {
		all += math.Exp(float64(v))
	}
	for i, v := range y {
		if want := float64(v) - math.Log(all); math.Abs(float64(shifted[i])-want) > 2e-6 {
			t.Errorf("log-softmax of %g is %g, want %g", v, shifted[i], want)
		}
	}
}

func TestVectors(t *testing.T) {
	for _, n := range []int{1, 15, 16, 40, 64} {
		a, b := random(n, 7), random(n, 8)
		dot, largest := 0.0, math.Inf(-1)
		sum := append([]float32{}, b...)
		matvec.AddScaled(sum, a, 0.5)
		for i := range a {
			dot += float64(a[i]) * float64(b[i])
			largest = max(largest, float64(a[i]))
			if want := b[i] + 0.5*a[i]; math.Abs(float64(sum[i]-want)) > 1e-6 {
				t.Errorf("n %d: sum[%d] is %g, want %g", n, i, sum[i], want)
			}
		}
		if math.Abs(float64(matvec.Dot(a, b))-dot) > 1e-5 || float64(matvec.Max(a)) != largest {
			t.Errorf("n %d: dot %g, want %g; max %g, want %g", n, matvec.Dot(a, b), dot, matvec.Max(a), largest)
		}
	}
}

func TestScoresAndBlend(t *testing.T) {
	for _, size := range []int{10, 16, 64, 128} {
		query, keys := random(size, 1), random(7*size, 2)
		places := []int32{int32(3 * size), 0, int32(6 * size), 5}
		weights, scores, out := []float32{0.5, -1, 2, 0.25}, make([]float32, 4), make([]float32, size)
		matvec.Scores(scores, query, keys, places)
		matvec.Blend(out, weights, keys, places)
		for i, p := range places {
			dot := 0.0
			for j, q := range query {
				dot += float64(q) * float64(keys[int(p)+j])
			}
			if math.Abs(float64(scores[i])-dot) > 1e-4 {
				t.Errorf("size %d: score %d is %g, want %g", size, i, scores[i], dot)
			}
		}
		for j := range out {
			want := 0.0
			for i, p := range places {
				want += float64(weights[i]) * float64(keys[int(p)+j])
			}
			if math.Abs(float64(out[j])-want) > 1e-5 {
				t.Errorf("size %d: out[%d] is %g, want %g", size, j, out[j], want)
			}
		}
	}
}

func BenchmarkMul(b *testing.B) {
	const in, out = 512, 32128
	w := random(in*out, 1)
	for _, kind := range []matvec.Kind{matvec.Float32, matvec.BFloat16, matvec.Int8} {
		m, err := matvec.Pack(kind, in, w)
		if err != nil {
			b.Fatal(err)
		}
		for _, rows := range []int{1, 8, 32} {
			x, y := random(rows*in, 2), make([]float32, rows*out)
			b.Run(fmt.Sprintf("%s/rows=%d", kind, rows), func(b *testing.B) {
				b.SetBytes(int64(m.Bytes()))
				for b.Loop() {
					m.Mul(y, x, rows)
				}
			})
		}
	}
}
