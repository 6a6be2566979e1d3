package fpmath_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/t5ctl/t5ctl/eval/fpmath"
)

// bigExp is e^x by its series with 200 bits, rounded once.
func bigExp(x float64) *big.Float {
	const prec = 220
	const halvings = 40
	r := new(big.Float).SetPrec(prec).SetFloat64(x)
	r.SetMantExp(r, -halvings)
	sum := new(big.Float).SetPrec(prec).SetInt64(1)
	term := new(big.Float).SetPrec(prec).SetInt64(1)
	for n := int64(1); n < 30; n++ {
		term.Mul(term, r)
		term.Quo(term, new(big.Float).SetPrec(prec).SetInt64(n))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}

func TestExpIsCorrectlyRounded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		x := rnd.NormFloat64() * 6
		if i%5 == 0 {
			x = -math.Exp(rnd.NormFloat64() * 3)
		}
		if x < -600 || x > 600 {
			continue
		}
		want, _ := bigExp(x).Float64()
		if got := fpmath.Exp(x); got != want {
			t.Fatalf("Exp(%v) = %v; want %v", x, got, want)
		}
	}
}

// A correctly rounded log y of x has e^(y-half a unit) <= x <= e^(y+half a unit).
func TestLogIsCorrectlyRounded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		x := math.Exp(rnd.NormFloat64() * 4)
		y := fpmath.Log(x)
		lo, hi := math.Nextafter(y, math.Inf(-1)), math.Nextafter(y, math.Inf(1))
		bx := new(big.Float).SetPrec(220).SetFloat64(x)
		below := middle(lo, y)
		above := middle(y, hi)
		if bigExpBig(below).Cmp(bx) > 0 || bigExpBig(above).Cmp(bx) < 0 {
			t.Fatalf("Log(%v) = %v is not the nearest", x, y)
		}
	}
}

func middle(a, b float64) *big.Float {
	s := new(big.Float).SetPrec(220).SetFloat64(a)
	s.Add(s, new(big.Float).SetFloat64(b))
	return s.SetMantExp(s, -1)
}

func bigExpBig(x *big.Float) *big.Float {
	hi, _ := x.Float64()
	lo, _ := new(big.Float).SetPrec(220).Sub(x, new(big.Float).SetFloat64(hi)).Float64()
	return new(big.Float).SetPrec(220).Mul(bigExp(hi), bigExp(lo))
}

func TestEdges(t *testing.T) {
	for _, tt := range []struct{ got, want float64 }{
		{fpmath.Exp(0), 1}, {fpmath.Exp(-9999999999), 0}, {fpmath.Log(1), 0}, {fpmath.Log(100), math.Log(100)},
	} {
		if tt.got != tt.want {
			t.Errorf("got %v; want %v", tt.got, tt.want)
		}
	}
}
