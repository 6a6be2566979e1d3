// Command t5ctl carries a T5 model through its whole life: training, fine-tuning, evaluation,
// exposure tests, gates, a registry, and the way back.
package main

import (
	"os"

	"github.com/t5ctl/t5ctl/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
