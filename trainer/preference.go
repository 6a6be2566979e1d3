package trainer

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:revive // graph code reads as formulas

	"github.com/t5ctl/t5ctl/internal/t5"
)

// Preference makes the chosen of two texts likelier than the rejected one (direct preference
// optimisation), beside the model as it was: the reference is the base, the adapter off. Rows are
// pairs, and train.batch counts pairs. Without train.dropout there is no dropout.
type Preference struct {
	Beta           float64 `yaml:"beta"`            // how far the model is held to its reference: small lets it go far; 0: no preference tuning
	LabelSmoothing float64 `yaml:"label_smoothing"` // share of the pairs that may be the wrong way round
}

// On says whether the run learns from pairs.
func (p Preference) On() bool { return p != Preference{} }

// preferenceRefusals are what is wrong with a run on pairs, and what it cannot be combined with.
func (o Options) preferenceRefusals() (all []string) {
	p := o.DPO
	if !p.On() {
		return nil
	}
	for _, c := range []struct {
		wrong bool
		text  string
	}{
		{!(p.Beta > 0), "dpo.beta must be positive"},
		{!(p.LabelSmoothing >= 0 && p.LabelSmoothing < 0.5), "dpo.label_smoothing must be in [0, 0.5)"},
		{o.Method != LoRA, "dpo needs train.method lora: its reference is the base with the adapter off"},
		{o.LabelSmoothing > 0, "dpo cannot stand beside label_smoothing, which is of tokens; dpo.label_smoothing is of pairs"},
		{o.ZLoss > 0, "dpo cannot stand beside z_loss: the loss is of whole texts"},
		{o.Distill.Teacher != "", "dpo cannot stand beside distill: the loss is of whole texts"},
		{o.DP.On(), "dpo cannot stand beside dp: an example is two texts"},
	} {
		if c.wrong {
			all = append(all, c.text)
		}
	}
	return all
}

// sums are what a batch adds to the loss and the measures: over tokens, or over pairs where the run
// learns from pairs.
func (n *network) sums(shape batchShape, l t5.Loss, net *t5.Network, frozen, batch []*Node) t5.Sums {
	if !n.options.DPO.On() {
		return shape.loss(l, net, batch)
	}
	reference := &t5.Network{Config: n.config, Weights: map[string]*Node{}, Compute: n.compute()}
	for i, in := range n.frozen[:n.base()] {
		reference.Weights[in.Name] = frozen[i]
	}
	p := t5.Preference{Beta: n.options.DPO.Beta, LabelSmoothing: n.options.DPO.LabelSmoothing}
	return p.Of(net.Logits(shape.states(net, batch)), reference.Logits(shape.states(reference, batch)), batch[1])
}

// accuracy names the share of right answers of an evaluation.
func (o Options) accuracy() string {
	if o.DPO.On() {
		return "preference_accuracy"
	}
	return "token_accuracy"
}
