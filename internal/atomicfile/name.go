package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
)

// suffix is random, so that two processes never stage under one name.
func suffix() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}
