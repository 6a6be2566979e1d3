package trainer

// Rounded is for the test of its statistics.
var Rounded = rounded
