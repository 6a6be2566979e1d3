package sign

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// FolderPredicate is the predicate type of a signature over the files of a folder, as
// model_signing makes and checks it.
const FolderPredicate = "https://model_signing/signature/v1.0"

// File is one file of a folder: its path with slashes, and its digest sha256:….
type File struct{ Path, Digest string }

type resource struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"`
}

// Folder signs the files of a folder. The subject's digest is that of all file digests, in the
// order of their paths, component by component.
func (k *PrivateKey) Folder(name string, files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int {
		return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
	})
	root := sha256.New()
	resources := make([]resource, 0, len(files))
	for _, file := range files {
		sum := strings.TrimPrefix(file.Digest, "sha256:")
		raw, err := hex.DecodeString(sum)
		if err != nil {
			return nil, fmt.Errorf("digest of %s: %w", file.Path, err)
		}
		if _, err := root.Write(raw); err != nil {
			return nil, err
		}
		resources = append(resources, resource{file.Path, "sha256", sum})
	}
	predicate := map[string]any{
		"resources": resources,
		"serialization": map[string]any{
			"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": []string{},
		},
	}
	return k.Bundle(name, "sha256:"+hex.EncodeToString(root.Sum(nil)), FolderPredicate, predicate)
}
