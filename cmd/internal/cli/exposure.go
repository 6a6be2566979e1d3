package cli

import (
	"github.com/spf13/cobra"
	"github.com/t5ctl/t5ctl/eval/exposure"
)

// newExposureCommand groups what concerns memorization.
func newExposureCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exposure",
		Short: "Plant secrets in data, and measure how far a model memorized them",
		Long: "Secrets of known randomness go into the training data; afterwards the model ranks each\n" +
			"among alternatives it never saw. Exposure is how many bits of the secret it gave away.\n" +
			"Secrets that were never planted are the control: if they look memorized, the test is void.",
	}
	cmd.AddCommand(newExposurePlantCommand(app), newExposureRunCommand(app), newExposureExtractCommand(app), newExposureMembershipCommand(app))
	return cmd
}

// exposureRules maps the failures of exposure tests to exit codes.
func exposureRules() []rule {
	return []rule{
		as[*exposure.FormatError](exitUsage, nil),
		as[*exposure.SettingsError](exitUsage, nil),
		as[*exposure.NoRowsError](exitUsage, nil),
		as(exitUsage, saying[*exposure.TooFewError]("give more, or ask for less")),
		as(exitCorrupt, saying[*exposure.ManifestError]("plant the canaries again, and train on what that writes")),
	}
}
