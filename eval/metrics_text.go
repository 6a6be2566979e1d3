package eval

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/t5ctl/t5ctl/eval/bleu"
	"github.com/t5ctl/t5ctl/eval/chrf"
	"github.com/t5ctl/t5ctl/eval/labels"
	"github.com/t5ctl/t5ctl/eval/qa"
	"github.com/t5ctl/t5ctl/eval/rouge"
	"github.com/t5ctl/t5ctl/eval/signature"
	"github.com/t5ctl/t5ctl/eval/ter"
)

// maker makes a metric of what a specification says.
type maker func(o *options) *Metric

// metricMakers is every metric by name.
func metricMakers() map[string]maker {
	makers := map[string]maker{
		"bleu": newBLEU, "chrf": newCHRF(0), "chrf++": newCHRF(2), "ter": newTER,
		"exact_match": newExactMatch, "sequence_accuracy": newExactMatch,
		"wer": newWordError, "per": newEditRate("word"), "cer": newEditRate("char"),
		"length_limit": newLengthLimit, "empty_outputs": newEmptyOutputs, "repetition": newRepetition,
		"output_words": newOutputWords, "length_ratio": newLengthRatio, "meteor": newMETEOR,
		"novelty": newNovelty, "number_support": newNumberSupport, "span_support": newSpanSupport,
		"json_valid": newJSONValid, "json_field_accuracy": newJSONFields(true), "json_field_recall": newJSONFields(false),
		"perplexity": newLikelihood("perplexity", "perplexity"), "bits_per_byte": newLikelihood("bits_per_byte", "bits per byte"),
		"probe": newProbe, "pii": newPII, "tripwire": newTripwire(false), "tripwire_excess": newTripwire(true),
		"latency": newLatency, "cost": newCost, "exec": newExec,
	}
	squad := func(output string, refs []string) (bool, float64) { return qa.Best(qa.Squad, output, refs) }
	trivia := func(output string, refs []string) (bool, float64) { return qa.Best(qa.TriviaQA, output, refs) }
	for name, m := range map[string]maker{
		"squad_em": newQA("SQuAD exact match", squad, true), "squad_f1": newQA("SQuAD F1", squad, false),
		"squad_v2_em": newQA("SQuAD 2 exact match", qa.BestV2, true), "squad_v2_f1": newQA("SQuAD 2 F1", qa.BestV2, false),
		"trivia_qa_em": newQA("TriviaQA exact match", trivia, true), "trivia_qa_f1": newQA("TriviaQA F1", trivia, false),
		"group_exact_match": newGroupMatch, "record_em": newReCoRD(true), "record_f1": newReCoRD(false),
		"accuracy": newAccuracy, "balanced_accuracy": newBalancedAccuracy, "mcc": newMCC,
		"pearson": newCorrelation("Pearson correlation", labels.Pearson), "spearman": newCorrelation("Spearman correlation", labels.Spearman),
	} {
		makers[name] = m
	}
	for _, part := range []string{"precision", "recall", "f1"} {
		makers[part] = newLabelScore("", part)
		for _, average := range []string{"macro", "micro", "weighted"} {
			makers[average+"_"+part] = newLabelScore(average, part)
		}
	}
	for _, t := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "L", "Lsum"} {
		makers["rouge"+t] = newROUGE("rouge" + t)
	}
	return makers
}

// worker holds what one goroutine needs to score rows.
type worker struct {
	rouge map[bool]*rouge.Counter // by whether words are stemmed
}

func newWorker() *worker { return &worker{rouge: map[bool]*rouge.Counter{}} }

func newBLEU(o *options) *Metric {
	opts := bleu.Options{
		Tokenize: o.text("tokenize", "13a", "tok"), Lowercase: o.flag("lowercase", false),
		Smooth: o.text("smooth", "exp", "smooth_method"), SmoothValue: o.number("smooth_value"),
		MaxOrder: o.integer("max_ngram_order", 4), EffectiveOrder: o.flag("effective_order", false),
	}
	pieces := newPieces(o, &opts)
	b, err := bleu.New(opts)
	if err != nil {
		o.errs = append(o.errs, optionError(o, err))
		return &Metric{}
	}
	return &Metric{
		prepare: pieces.open,
		Label:   "BLEU", HigherIsBetter: true, columns: b.Columns(),
		signature: func(refs int) signature.Signature {
			s := b.Signature(refs)
			if opts.MaxOrder != 4 { // sacreBLEU's own signature hides it
				s.Fields = append(s.Fields, field("order", strconv.Itoa(opts.MaxOrder)))
			}
			if pieces.digest != "" {
				s.Fields = append(s.Fields, field("model", pieces.digest))
			}
			return s
		},
		counter: func(*worker) func([]float64, *Sample) bool {
			c := b.NewCounter()
			return func(dst []float64, s *Sample) bool {
				c.Count(dst, s.Output, s.References)
				return true
			}
		},
		score:  func(sum []float64, _ int) float64 { return b.Score(sum).Score },
		detail: func(sum []float64) string { return b.Score(sum).Verbose() },
		paired: b.Score32,
	}
}

// optionError keeps what the metric's own package says of a bad option.
func optionError(o *options, err error) error {
	return &OptionValueError{o.metric, "value", "", err.Error()}
}

func newCHRF(words int) maker {
	return func(o *options) *Metric {
		usual := chrf.Default()
		opts := chrf.Options{
			CharOrder: o.integer("char_order", usual.CharOrder), WordOrder: o.integer("word_order", words), Beta: o.integer("beta", usual.Beta),
			Lowercase: o.flag("lowercase", false), Whitespace: o.flag("whitespace", false),
			EpsSmoothing: o.flag("eps_smoothing", false),
		}
		c, err := chrf.New(opts)
		if err != nil {
			o.errs = append(o.errs, optionError(o, err))
			return &Metric{}
		}
		return &Metric{
			Label: c.Label(), HigherIsBetter: true, columns: c.Columns(),
			signature: func(refs int) signature.Signature {
				s := c.Signature(refs)
				if opts.Beta != 2 { // part of the name only, in sacreBLEU
					s.Fields = append(s.Fields, field("beta", strconv.Itoa(opts.Beta)))
				}
				return s
			},
			counter: func(*worker) func([]float64, *Sample) bool {
				k := c.NewCounter()
				return func(dst []float64, s *Sample) bool {
					k.Count(dst, s.Output, s.References)
					return true
				}
			},
			score:  func(sum []float64, _ int) float64 { return c.Score(sum) },
			paired: func(sum []float32) float64 { return float64(c.Score32(sum)) },
			single: true,
		}
	}
}

func newTER(o *options) *Metric {
	t := ter.New(ter.Options{
		Normalized: o.flag("normalized", false), NoPunct: o.flag("no_punct", false),
		AsianSupport: o.flag("asian_support", false), CaseSensitive: o.flag("case_sensitive", false),
	})
	return &Metric{
		Label: "TER", columns: t.Columns(),
		signature: t.Signature,
		counter: func(*worker) func([]float64, *Sample) bool {
			c := t.NewCounter()
			return func(dst []float64, s *Sample) bool {
				c.Count(dst, s.Output, s.References)
				return true
			}
		},
		score:  func(sum []float64, _ int) float64 { return t.Score(sum) },
		paired: func(sum []float32) float64 { return float64(t.Score32(sum)) },
		single: true,
	}
}

func newROUGE(name string) maker {
	return func(o *options) *Metric {
		stem := o.flag("stem", false, "use_stemmer")
		part := o.text("part", "f")
		lines := o.text("lines", "text")
		t5 := lines == "t5"
		if !t5 && lines != "text" {
			o.fail("lines", lines, "must be text, or t5 to end a line at each full stop as T5's evaluation does")
		}
		pick := map[string]func(rouge.Triple) float64{
			"f":         func(t rouge.Triple) float64 { return t.F },
			"precision": func(t rouge.Triple) float64 { return t.Precision },
			"recall":    func(t rouge.Triple) float64 { return t.Recall },
		}[part]
		if pick == nil {
			o.fail("part", part, "must be f, precision or recall")
		}
		typ, err := rouge.ParseType(name)
		if err != nil {
			o.errs = append(o.errs, err)
		}
		return &Metric{
			Label: "ROUGE-" + name[len("rouge"):], HigherIsBetter: true, columns: []string{part},
			signature: func(refs int) signature.Signature {
				fields := []signature.Field{field("stem", signature.YesNo(stem)), field("part", part), field("agg", "mean")}
				if t5 {
					fields = append(fields, field("lines", "t5"))
				}
				return signature.Signature{Refs: refs, Version: "rouge-score-" + rouge.Version, Fields: fields}
			},
			counter: func(w *worker) func([]float64, *Sample) bool {
				c := w.rouge[stem]
				if c == nil {
					c = rouge.NewCounter(stem)
					w.rouge[stem] = c
				}
				return func(dst []float64, s *Sample) bool {
					output, refs := s.Output, s.References
					if t5 {
						output = sentencesToLines(output)
						refs = nil
						for _, r := range s.References {
							refs = append(refs, sentencesToLines(r))
						}
					}
					dst[0] = pick(c.Score(typ, output, refs))
					return true
				}
			},
			score: mean100, rouge: true,
		}
	}
}

// sentencesToLines is how T5's evaluation prepares texts for ROUGE-Lsum.
func sentencesToLines(text string) string { return strings.ReplaceAll(text, " . ", " .\n") }

// mean100 is the mean on the scale from 0 to 100, divided before it is scaled as T5's code does.
func mean100(sum []float64, n int) float64 { return sum[0] / float64(n) * 100 }

// meanOf is a plain mean.
func meanOf(sum []float64, n int) float64 { return sum[0] / float64(n) }

// String names the metric as its specification does.
func (m *Metric) String() string { return fmt.Sprintf("%s (%s)", m.Name, m.Spec) }
