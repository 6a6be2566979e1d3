package remote_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/internal/hub/hubtest"
)

// What t5ctl pulled, huggingface_hub finds, and the other way round. T5CTL_HUB_PYTHON names a Python that has
// huggingface_hub; it was written against 2.4.0.
func TestPeer(t *testing.T) {
	python := os.Getenv("T5CTL_HUB_PYTHON")
	if python == "" {
		t.Skip("SKIPPED: T5CTL_HUB_PYTHON names no Python with huggingface_hub")
	}
	h, o := newHub(t)
	peer := func(cache hub.Cache, code string) string {
		cmd := exec.CommandContext(t.Context(), python, "-c", code)
		cmd.Env = append(os.Environ(), "HF_ENDPOINT="+h.URL, "HF_HUB_CACHE="+cache.Dir, "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_OFFLINE=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	ours, err := pull(t, o, model(t, "hf:me/tiny"))
	if err != nil {
		t.Fatal(err)
	}
	found := peer(o.Cache, `from huggingface_hub import snapshot_download, scan_cache_dir
print(snapshot_download("me/tiny", local_files_only=True))
info = scan_cache_dir()
print("warnings:", info.warnings, "revisions:", [v.commit_hash for r in info.repos for v in r.revisions])`)
	if !strings.Contains(found, ours.Dir) || !strings.Contains(found, "warnings: [] revisions: ['"+hubtest.Commit+"']") {
		t.Errorf("huggingface_hub finds %s", found)
	}
	o.Cache, o.Records = hub.Cache{Dir: t.TempDir()}, t.TempDir()
	peer(o.Cache, `from huggingface_hub import hf_hub_download
for name in ("config.json", "model.safetensors", "spiece.model"): hf_hub_download("me/tiny", name)`)
	if theirs, err := pull(t, o, model(t, "hf:me/tiny")); err != nil || theirs.Fetched != 0 || len(theirs.Files) != 3 {
		t.Errorf("%+v, %v", theirs, err)
	}
}
