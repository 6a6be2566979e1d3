//go:build !unix

package safetensors

import "os"

// mapFile reads the file whole where memory cannot be mapped in one portable way.
func mapFile(path string) (data []byte, unmap func() error, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if err := regular(path, info); err != nil {
		return nil, nil, err
	}
	data, err = os.ReadFile(path)
	return data, func() error { return nil }, err
}
