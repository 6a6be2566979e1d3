package datasets

import "github.com/t5ctl/t5ctl/internal/hub"

// hubFiles finds the files of a reference hf:owner/name[@revision]/path in the cache of the Hugging Face hub's tools.
// Nothing is ever asked over a network here.
func hubFiles(text string) ([]string, error) {
	ref, err := hub.ParseData(text)
	if err != nil {
		return nil, err
	}
	return hub.DefaultCache().Files(ref)
}
