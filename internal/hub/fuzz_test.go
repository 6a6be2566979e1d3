package hub_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/hub"
)

// No reference leads out of the cache.
func FuzzRef(f *testing.F) {
	for _, text := range []string{"hf:a/b", "hf:a/b@v1", "hf:a/b@refs/pr/1", "hf:a/b@main/data/*.jsonl", "hf:../b@..", "hf:a/b/../../x"} {
		f.Add(text)
	}
	cache := hub.Cache{Dir: filepath.FromSlash("/cache")}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (hub.Ref, error){hub.ParseModel, hub.ParseData} {
			ref, err := parse(text)
			if err != nil {
				continue
			}
			for _, path := range []string{cache.Repo(ref), filepath.Join(cache.Repo(ref), "refs", ref.Revision), filepath.Join(cache.Repo(ref), "x", ref.Path)} {
				if !strings.HasPrefix(path, cache.Repo(ref)) || filepath.Dir(cache.Repo(ref)) != cache.Dir {
					t.Errorf("%q leads to %s", text, path)
				}
			}
			if again, err := parse(ref.String()); err != nil || again != ref {
				t.Errorf("%q is written as %q, which is %+v, %v", text, ref.String(), again, err)
			}
		}
	})
}
