package t5_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/t5ctl/t5ctl/internal/t5"
)

// transformers 5 refuses a whole number where it wants a real one.
func TestConfigWritesRealNumbers(t *testing.T) {
	c := t5.DefaultConfig()
	c.NumDecoderLayers, c.DropoutRate = 6, 0
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"dropout_rate":0.0`, `"initializer_factor":1.0`, `"layer_norm_epsilon":0.000001`} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
	if back, err := t5.ParseConfig(data); err != nil || back != c {
		t.Errorf("%v: read back %+v", err, back)
	}
}
