//go:build !unix

package cli

func peakRSS() float64 { return 0 }

func sinceStart() float64 { return 0 }
