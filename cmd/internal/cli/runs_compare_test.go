package cli

import (
	"reflect"
	"testing"
)

// Each value stands once, after the runs that share it.
func TestSharedValues(t *testing.T) {
	row := comparisonRow{Name: "train.lora.rank", Values: []string{"8", "16", "8", ""}}
	want := [][2]string{{"a, c", "8"}, {"b", "16"}, {"d", "–"}}
	if got := row.shared([]string{"a", "b", "c", "d"}); !reflect.DeepEqual(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
}
