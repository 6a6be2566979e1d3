package t5

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas
)

// Ignore is the label of a position that has no target.
const Ignore = -100

// Loss says how a token's loss is made of its logits.
type Loss struct {
	LabelSmoothing float64 // share ε spread evenly over the vocabulary, as torch's CrossEntropyLoss does
	ZLoss          float64 // weight of log²Z, which keeps the logits from drifting
	Teacher        *Teacher
}

// Teacher is a model whose distribution over the next token is learned beside the labels (Hinton
// et al. 2015): the loss of a token is (1 − Weight)·L + Weight·T²·KL(teacher ‖ student), both
// softened by the temperature T.
type Teacher struct {
	Network     *Network
	States      *Node // of the teacher's decoder [batch, targets, d_model]
	Temperature float64
	Weight      float64
}

// Sums are totals over the positions that have a target; a mean is taken once, over all rows of
// all micro-batches, so that it is weighted by tokens.
type Sums struct {
	Loss    *Node // what is minimised
	NLL     *Node // cross entropy alone, in nats
	Tokens  *Node // positions counted
	Correct *Node // of those, where the largest logit is the label
}

// of sums the loss of every position of a batch. The teacher's logits may be nil.
//
//	logits, teacher [batch, targets, vocab] float32, labels [batch, targets]   →   scalars, float32
func (l Loss) of(logits, labels, teacher *Node) Sums {
	logProb, logZ := TokenLogProbs(logits, labels) // [batch, targets] each
	counted := ConvertDType(NotEqual(labels, ConstAs(labels, int32(Ignore))), dtypes.Float32)
	nll := Neg(logProb)
	loss := nll
	if l.LabelSmoothing > 0 {
		uniform := Sub(logZ, ReduceMean(logits, -1)) // mean over the vocabulary of −log p
		loss = Add(MulScalar(nll, 1-l.LabelSmoothing), MulScalar(uniform, l.LabelSmoothing))
	}
	if l.ZLoss > 0 {
		loss = Add(loss, MulScalar(Mul(logZ, logZ), l.ZLoss))
	}
	if teacher != nil {
		soft := MulScalar(divergence(teacher, logits, l.Teacher.Temperature), l.Teacher.Weight*l.Teacher.Temperature*l.Teacher.Temperature)
		loss = Add(MulScalar(loss, 1-l.Teacher.Weight), soft)
	}
	best := Equal(ArgMax(logits, -1, dtypes.Int32), labels)
	return Sums{
		Loss:    ReduceAllSum(Mul(loss, counted)),
		NLL:     ReduceAllSum(Mul(nll, counted)),
		Tokens:  ReduceAllSum(counted),
		Correct: ReduceAllSum(Mul(ConvertDType(best, dtypes.Float32), counted)),
	}
}

// OfStates sums the loss of decoder states. Where chunk is smaller than the number of targets, the
// logits are made for that many positions at a time and made again for the backward pass, so that
// they never exist all at once.
//
//	states [batch, targets, d_model], labels [batch, targets]   →   scalars, float32
func (l Loss) OfStates(n *Network, states, labels *Node, chunk int) Sums {
	targets := labels.Shape().Dimensions[1]
	guide := func(from, to int) *Node {
		if l.Teacher == nil {
			return nil
		}
		return StopGradient(l.Teacher.Network.Logits(Slice(l.Teacher.States, AxisRange(), AxisRange(from, to))))
	}
	if chunk >= targets {
		return l.of(n.Logits(states), labels, guide(0, targets))
	}
	var total Sums
	for from := 0; from < targets; from += chunk {
		to := min(from+chunk, targets)
		part := Slice(states, AxisRange(), AxisRange(from, to)).Checkpoint()
		s := l.of(n.Logits(part), Slice(labels, AxisRange(), AxisRange(from, to)), guide(from, to))
		s = Sums{s.Loss.StopCheckpoint(), s.NLL.StopCheckpoint(), s.Tokens, s.Correct.StopCheckpoint()}
		if from == 0 {
			total = s
			continue
		}
		total = Sums{Add(total.Loss, s.Loss), Add(total.NLL, s.NLL), Add(total.Tokens, s.Tokens), Add(total.Correct, s.Correct)}
	}
	return total
}

// divergence is KL(p ‖ q) at each position, of the distributions that the logits give at a
// temperature.
//
//	p, q [batch, targets, vocab]   →   [batch, targets]
func divergence(p, q *Node, temperature float64) *Node {
	p, q = DivScalar(p, temperature), DivScalar(q, temperature)
	logP, logQ := logSoftmax(p), logSoftmax(q)
	return ReduceSum(Mul(Exp(logP), Sub(logP, logQ)), -1)
}

func logSoftmax(x *Node) *Node {
	x = Sub(x, StopGradient(ReduceAndKeep(x, ReduceMax, -1)))
	return Sub(x, Log(ReduceAndKeep(Exp(x), ReduceSum, -1)))
}

// TokenLogProbs gives the log-probability of each label and the log of the normaliser. What it
// says of ignored labels means nothing. The label's logit is picked by comparison, not by a
// gather, whose gradient would scatter.
//
//	logits [batch, targets, vocab], labels [batch, targets]   →   [batch, targets] each
func TokenLogProbs(logits, labels *Node) (logProb, logZ *Node) {
	peak := StopGradient(ReduceAndKeep(logits, ReduceMax, -1))
	logZ = Add(Log(ReduceSum(Exp(Sub(logits, peak)), -1)), Squeeze(peak, -1))
	index := iota32(logits.Graph(), logits.Shape().Dimensions, logits.Rank()-1)
	chosen := Equal(index, BroadcastToDims(InsertAxes(labels, -1), logits.Shape().Dimensions...))
	logit := ReduceSum(Where(chosen, logits, ZerosLike(logits)), -1)
	return Sub(logit, logZ), logZ
}

// Preference is how much likelier the chosen of two texts is to become than the rejected one
// (direct preference optimisation; Rafailov et al. 2023): with
// m = Beta·((log π(chosen) − log π(rejected)) − the same of the reference), the loss of a pair is
// −(1 − LabelSmoothing)·log σ(m) − LabelSmoothing·log σ(−m). Reference: DPOTrainer.dpo_loss of TRL
// 0.11.4.
type Preference struct {
	Beta           float64
	LabelSmoothing float64 // share of pairs that may be the wrong way round
}

// Of sums the loss over pairs: NLL is that without smoothing, Tokens counts pairs, and Correct those
// with m > 0. Rows 2i and 2i+1 are the chosen and the rejected text of a pair; rows without a label
// do not count.
//
//	policy, reference [2·pairs, targets, vocab], labels [2·pairs, targets]   →   scalars, float32
func (p Preference) Of(policy, reference, labels *Node) Sums {
	counted := ConvertDType(NotEqual(labels, ConstAs(labels, int32(Ignore))), dtypes.Float32)
	ratio := func(logits *Node) *Node { // [pairs]
		logProb, _ := TokenLogProbs(logits, labels)
		pairs := Reshape(ReduceSum(Mul(logProb, counted), -1), -1, 2)
		return Squeeze(Sub(Slice(pairs, AxisRange(), AxisElem(0)), Slice(pairs, AxisRange(), AxisElem(1))), -1)
	}
	margin := MulScalar(Sub(ratio(policy), StopGradient(ratio(reference))), p.Beta)
	right, wrong := softplus(Neg(margin)), softplus(margin) // −log σ(m) and −log σ(−m)
	loss := Add(MulScalar(right, 1-p.LabelSmoothing), MulScalar(wrong, p.LabelSmoothing))
	whole := ReduceMax(Reshape(ReduceMax(counted, -1), -1, 2), -1) // [pairs]
	return Sums{
		Loss:    ReduceAllSum(Mul(loss, whole)),
		NLL:     ReduceAllSum(Mul(right, whole)),
		Tokens:  ReduceAllSum(whole),
		Correct: ReduceAllSum(Mul(ConvertDType(GreaterThan(margin, ZerosLike(margin)), dtypes.Float32), whole)),
	}
}

// softplus is log(1 + eˣ); its gradient is right at 0 too, where every run begins.
func softplus(x *Node) *Node {
	peak := StopGradient(MaxScalar(x, 0))
	return Add(peak, Log(Add(Exp(Neg(peak)), Exp(Sub(x, peak)))))
}
