package trainer_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/t5ctl/t5ctl/internal/device"
	"github.com/t5ctl/t5ctl/internal/device/devicetest"
	"github.com/t5ctl/t5ctl/internal/lora"
	"github.com/t5ctl/t5ctl/internal/safetensors"
	"github.com/t5ctl/t5ctl/internal/seq2seq"
	"github.com/t5ctl/t5ctl/trainer"
)

// lots gives fixed batches as lots: two of four rows make a step.
type lots struct {
	*fixedBatches
	rate float64
}

func (l lots) Rate() float64 { return l.rate }

// privateBatches are random rows with as many labels each; the last row of every second batch is
// padding.
func privateBatches(n int) *fixedBatches {
	random := rand.New(rand.NewPCG(3, 4))
	f := &fixedBatches{}
	for k := range n {
		b := seq2seq.New(4, 6, 5)
		for i := range 4 - k%2 {
			e := seq2seq.Example{ID: fmt.Sprint(k, i)}
			for range 3 + i {
				e.Input = append(e.Input, 3+random.Int32N(90))
			}
			for range 5 {
				e.Target = append(e.Target, 3+random.Int32N(90))
			}
			b.Append(e)
		}
		b.More = k%2 == 0
		f.batches = append(f.batches, b)
	}
	return f
}

// private is a short run with every example's gradient cut to a length.
func private(t *testing.T, b *device.Backend, dir string, p trainer.Privacy) trainer.Job {
	t.Helper()
	o := trainer.DefaultOptions()
	none := 0.0
	o.Method, o.Steps, o.Batch, o.ClipNorm, o.Dropout, o.Seed, o.DP = trainer.LoRA, 1, 7, 0, &none, 5, p
	o.LoRA = lora.Options{Rank: 2, Alpha: 4, Targets: []string{"q", "wo"}}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	base := openBase(t, filepath.Join(trainData, "model"))
	job := trainer.Job{
		Options: o, Config: base.Config, Base: base, Train: lots{privateBatches(6), 0.07},
		Backend: b, Dir: dir, Fingerprint: "sha256:one",
	}
	job.Adapter = started(t, job)
	return job
}

// started is an adapter whose B is not zero, so that all of it has a gradient.
func started(t *testing.T, job trainer.Job) (values [][]float32) {
	t.Helper()
	adapter, err := lora.New(job.Options.LoRA, job.Config)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, spec := range adapter.Specs() {
		v := make([]float32, spec.Shape[0]*spec.Shape[1])
		for i := range v {
			v[i] = float32(random.NormFloat64() * 0.05)
		}
		values = append(values, v)
	}
	return values
}

// firstGradient is the gradient of a run's first step, read off AdamW's first moment.
func firstGradient(t *testing.T, job trainer.Job) (all []float64) {
	t.Helper()
	result, err := trainer.Run(context.Background(), job)
	if err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Open(filepath.Join(result.Checkpoint, "optimizer.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // opened for reading
	names := file.Names()
	slices.Sort(names)
	for _, name := range names {
		if len(name) < 8 || name[:8] != "exp_avg." {
			continue
		}
		for _, v := range values(t, file, name) {
			all = append(all, float64(v)/(1-job.Options.Optimizer.Beta1))
		}
	}
	return all
}

func length(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

// The gradient of a private step is that of each row by itself, cut to the length asked for and
// summed, over the expected number of examples.
func TestEveryExampleIsClippedByItself(t *testing.T) {
	onGo := devicetest.Go(t)
	var rows [][]float64
	for k, batch := range privateBatches(2).batches {
		for i := range 4 - k%2 {
			alone := private(t, onGo, t.TempDir(), trainer.Privacy{})
			one := seq2seq.New(1, 6, 5)
			copy(one.Inputs, batch.Inputs[6*i:6*i+6])
			copy(one.Labels, batch.Labels[5*i:5*i+5])
			alone.Train = &fixedBatches{batches: []seq2seq.Batch{one}}
			rows = append(rows, firstGradient(t, alone))
		}
	}
	lengths := make([]float64, len(rows))
	for i, row := range rows {
		lengths[i] = length(row)
	}
	clip := slices.Sorted(slices.Values(lengths))[len(rows)/2] // half of them are cut
	want := make([]float64, len(rows[0]))
	for i, row := range rows {
		for j, v := range row {
			want[j] += v * math.Min(1, clip/lengths[i]) / 7
		}
	}
	t.Logf("lengths %.3g, cut at %.3g", lengths, clip)
	devicetest.Each(t, func(t *testing.T, b *device.Backend) {
		got := firstGradient(t, private(t, b, t.TempDir(), trainer.Privacy{Clip: clip, Delta: 1e-5, Rows: 4}))
		off := make([]float64, len(want))
		for i := range want {
			off[i] = got[i] - want[i]
		}
		d := length(off) / length(want)
		if t.Logf("%.2g off", d); !(d < 2e-5) {
			t.Errorf("the gradient is %.2g off", d)
		}
	})
}

// Without noise and with a length that cuts nothing, a private run is a plain one.
func TestWithoutNoiseAndClippingNothingChanges(t *testing.T) {
	b := devicetest.Go(t)
	batches := privateBatches(6)
	full := &fixedBatches{}
	for _, batch := range batches.batches {
		if batch.Labels[19] == seq2seq.Ignore {
			continue
		}
		batch.More = false
		full.batches = append(full.batches, batch)
	}
	run := func(p trainer.Privacy) []float64 {
		job := private(t, b, t.TempDir(), p)
		job.Options.Steps, job.Options.LogEvery, job.Options.Batch, job.Train = 8, 1, 4, lots{&fixedBatches{batches: full.batches}, 0.01}
		return losses(t, job)
	}
	plain, private := run(trainer.Privacy{}), run(trainer.Privacy{Clip: 1e9, Delta: 1e-5, Rows: 4})
	for i := range plain {
		if d := math.Abs(plain[i]-private[i]) / plain[i]; !(d < 1e-5) {
			t.Errorf("step %d: loss %.8g, plain %.8g", i+1, private[i], plain[i])
		}
	}
}

// The noise is as large as it is said to be, comes from the seed and the step alone, and the
// account is that of the steps taken.
func TestNoise(t *testing.T) {
	b := devicetest.Go(t)
	const clip, noise = 0.25, 3.0
	clean := firstGradient(t, private(t, b, t.TempDir(), trainer.Privacy{Clip: clip, Delta: 1e-5, Rows: 4}))
	draw := func(seed uint64) []float64 {
		job := private(t, b, t.TempDir(), trainer.Privacy{Clip: clip, Noise: noise, Delta: 1e-5, Rows: 4})
		job.Options.Seed = seed
		noisy := firstGradient(t, job)
		for i := range noisy {
			noisy[i] = (noisy[i] - clean[i]) * 7 / (noise * clip)
		}
		return noisy
	}
	first, again, other := draw(5), draw(5), draw(6)
	if !slices.Equal(first, again) || slices.Equal(first, other) {
		t.Error("the noise does not come from the seed alone")
	}
	n := float64(len(first))
	mean, square, product := 0.0, 0.0, 0.0
	for i, v := range first {
		mean, square, product = mean+v/n, square+v*v/n, product+v*other[i]/n
	}
	t.Logf("%g values: mean %.4f, variance %.4f, covariance of two seeds %.4f", n, mean, square-mean*mean, product)
	if off := 4 / math.Sqrt(n); math.Abs(mean) > off || math.Abs(square-1) > math.Sqrt2*off || math.Abs(product) > off {
		t.Errorf("mean %g, variance %g, covariance %g of %g values; want 0, 1, 0", mean, square, product, n)
	}
}

func TestPrivateRunResumesBitForBitAndKeepsItsAccount(t *testing.T) {
	b := devicetest.Go(t)
	p := trainer.Privacy{Clip: 0.2, Noise: 1, Delta: 1e-5, Rows: 4}
	start := func(dir string) trainer.Job {
		job := private(t, b, dir, p)
		dropout := 0.1
		job.Options.Steps, job.Options.SaveEvery, job.Options.LogEvery, job.Options.Dropout = 6, 2, 1, &dropout
		return job
	}
	whole := start(t.TempDir())
	var told []float64
	whole.Sink = func(e trainer.Event) {
		if s, ok := e.(trainer.Stepped); ok {
			told = append(told, *s.Privacy.Epsilon)
		}
	}
	result, err := trainer.Run(context.Background(), whole)
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.Spent(0.07, 6)
	if err != nil || result.Privacy == nil || *result.Privacy.Epsilon != *want.Epsilon || len(told) != 6 || told[5] != *want.Epsilon || !slices.IsSorted(told) {
		t.Errorf("told %v, at the end %+v; want %+v, %v", told, result.Privacy, want, err)
	}
	for _, step := range []int{1, 3, 4} {
		broken := start(t.TempDir())
		ctx, sink := stopAt(step)
		broken.Sink = sink
		if _, err := trainer.Run(ctx, broken); err == nil {
			t.Fatal("was not stopped")
		}
		again := start(broken.Dir)
		again.Resume = true
		resumed, err := trainer.Run(context.Background(), again)
		if err != nil {
			t.Fatal(err)
		}
		if weightsOf(t, resumed.Checkpoint) != weightsOf(t, result.Checkpoint) || *resumed.Privacy.Epsilon != *want.Epsilon {
			t.Errorf("stopped at %d: the resumed run ends elsewhere", step)
		}
	}
}

func TestWhatPrivacyCannotStandBeside(t *testing.T) {
	base := trainer.DefaultOptions()
	base.Steps, base.DP = 1, trainer.Privacy{Clip: 1, Noise: 1, Delta: 1e-5, Rows: 4}
	if err := base.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*trainer.Options){
		"full":       func(o *trainer.Options) { o.Method = trainer.Full },
		"dora":       func(o *trainer.Options) { o.LoRA.DoRA = true },
		"modules":    func(o *trainer.Options) { o.LoRA.ModulesToSave = []string{"lm_head"} },
		"accumulate": func(o *trainer.Options) { o.Accumulate = 2 },
		"tokens":     func(o *trainer.Options) { o.TokensPerBatch = 100 },
		"teacher":    func(o *trainer.Options) { o.Distill.Teacher = "x" },
		"no clip":    func(o *trainer.Options) { o.DP.Clip = 0 },
		"infinite":   func(o *trainer.Options) { o.DP.Clip = math.Inf(1) },
		"noise":      func(o *trainer.Options) { o.DP.Noise = -1 },
		"no delta":   func(o *trainer.Options) { o.DP.Delta = 0 },
		"rows":       func(o *trainer.Options) { o.DP.Rows = 0 },
	} {
		o := base
		if change(&o); o.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	b := devicetest.Go(t)
	job := private(t, b, t.TempDir(), trainer.Privacy{Clip: 1, Noise: 1, Delta: 0.02, Rows: 4})
	if _, err := trainer.Run(context.Background(), job); err == nil {
		t.Error("a delta of 0.02 for 100 rows is accepted")
	}
	job = private(t, b, t.TempDir(), trainer.Privacy{Clip: 1, Noise: 1, Delta: 1e-5, Rows: 4})
	job.Train = privateBatches(6)
	if _, err := trainer.Run(context.Background(), job); err == nil {
		t.Error("batches that are not drawn by chance are accepted")
	}
}
