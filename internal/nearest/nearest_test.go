package nearest_test

import (
	"testing"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

func TestOf(t *testing.T) {
	candidates := []string{"train", "validation", "test", "max_input", "learning_rate", "finetune"}
	tests := map[string]struct{ name, want string }{
		"exact":         {"train", "train"},
		"one letter":    {"trian", "train"},
		"dash":          {"max-input", "max_input"},
		"case":          {"Test", "test"},
		"start":         {"val", "validation"},
		"two letters":   {"lerning_rat", "learning_rate"},
		"nothing alike": {"gradient", ""},
		"empty":         {"", ""},
		"too far":       {"text_columns", ""},
		"a longer name": {"finetuning", "finetune"},
		"end":           {"rate", "learning_rate"},
		"unknown":       {"zzz", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := nearest.Of(tt.name, candidates); got != tt.want {
				t.Errorf("Of(%q) = %q; want %q", tt.name, got, tt.want)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	tests := map[string]struct {
		a, b string
		want int
	}{
		"same":      {"abc", "abc", 0},
		"empty":     {"", "abc", 3},
		"swap":      {"ab", "ba", 1},
		"classic":   {"kitten", "sitting", 3},
		"two swaps": {"abcd", "badc", 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := nearest.Distance([]rune(tt.a), []rune(tt.b)); got != tt.want {
				t.Errorf("Distance(%q, %q) = %d; want %d", tt.a, tt.b, got, tt.want)
			}
		})
	}
}
