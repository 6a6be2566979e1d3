package eval

import (
	"github.com/t5ctl/t5ctl/eval/bleu"
	"github.com/t5ctl/t5ctl/internal/vocab"
)

// pieces cuts lines with a SentencePiece model for BLEU: tokenize=spm,model=FILE. A text that the
// model cannot spell is one piece, <unk>, whatever it says.
type pieces struct {
	metric, path string
	tok          *vocab.Tokenizer
	digest       string
}

// newPieces takes the options of the tokenizer spm and puts it into the options of BLEU. flores101 and
// flores200, the models that sacreBLEU has by these names, stand in the signature as there.
func newPieces(o *options, into *bleu.Options) *pieces {
	p := &pieces{metric: o.metric, path: o.text("model", "")}
	switch {
	case (into.Tokenize == "spm" || into.Tokenize == "flores101" || into.Tokenize == "flores200") && p.path != "":
		into.Name, into.Tokenize, into.Pieces = into.Tokenize, "spm", p.cut
	case p.path != "":
		o.fail("model", p.path, "goes with tokenize=spm, flores101 or flores200")
	}
	return p
}

// open reads the model; until then nothing can be cut.
func (p *pieces) open() error {
	if p.path == "" {
		return nil
	}
	tok, err := vocab.Load(p.path, vocab.ModeSP)
	if err != nil {
		return err
	}
	p.tok = tok
	p.digest = tok.Hash()
	if len(p.digest) > len("sha256:")+12 {
		p.digest = p.digest[len("sha256:"):][:12]
	}
	return nil
}

func (p *pieces) cut(line string) []string {
	ids := p.tok.Encode(line)
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i], _ = p.tok.Piece(id)
	}
	return out
}
