package registry

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/t5ctl/t5ctl/internal/atomicfile"
	"github.com/t5ctl/t5ctl/internal/digest"
)

// hubAttributes says which files git is to keep apart, as the hub's own tools write it.
const hubAttributes = `*.safetensors filter=lfs diff=lfs merge=lfs -text
*.model filter=lfs diff=lfs merge=lfs -text
tokenizer.json filter=lfs diff=lfs merge=lfs -text
`

// WriteHub writes what a request would push as a new folder in the form of a repository of the Hugging Face hub: the model's
// files, checked against their digests, its card as README.md, and the attributes of large files.
func (s Source) WriteHub(dir string, request PushRequest) error {
	if s.Canaries != "" && !request.AllowCanaries {
		return &CanaryError{Dir: s.Dir, Source: s.Canaries}
	}
	return atomicfile.WriteDir(filepath.Clean(dir), func(stage string) error {
		for _, layer := range s.layers {
			if err := s.copyLayer(stage, layer); err != nil {
				return err
			}
		}
		if request.Card != nil {
			if err := os.WriteFile(filepath.Join(stage, "README.md"), request.Card, 0o644); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(stage, ".gitattributes"), []byte(hubAttributes), 0o644)
	})
}

// copyLayer copies one file of the source, and checks what arrived.
func (s Source) copyLayer(stage string, layer Layer) error {
	to := filepath.Join(stage, filepath.FromSlash(layer.Path))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	from, err := os.Open(filepath.Join(s.ModelDir, filepath.FromSlash(layer.Path)))
	if err != nil {
		return err
	}
	err = atomicfile.Write(to, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	if err = errors.Join(err, from.Close()); err != nil {
		return err
	}
	return digest.Check(to, layer.Digest)
}
