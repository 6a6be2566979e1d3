//go:build !unix

package local_test

import "errors"

func limitFileSize(uint64) error { return errors.New("no limit on this system") }
