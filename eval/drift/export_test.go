package drift

// Marsaglia and PelzGood are two ways to one distribution.
var (
	Marsaglia = marsaglia
	PelzGood  = pelzGood
)
