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

// Of sums the loss of every position of a batch.
//
//	logits [batch, targets, vocab] float32, labels [batch, targets]   →   scalars, float32
func (l Loss) Of(logits, labels *Node) Sums { return l.of(logits, labels, nil) }

// of takes the teacher's logits too, or nil.
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
