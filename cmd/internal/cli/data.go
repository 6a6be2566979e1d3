package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/datasets/audit"
	"github.com/t5ctl/t5ctl/eval/drift"
)

func newDataCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "Look into data, clean it and divide it",
		Long: "Data is JSON lines, CSV, TSV or Parquet, each also as .gz or .zst. Columns are found by\n" +
			"their names, input and target unless a recipe or a flag names others.",
	}
	cmd.AddCommand(newDataInspectCommand(app), newDataAuditCommand(app), newDataScanCommand(app), newDataRedactCommand(app), newDataSplitCommand(app), newDataSampleCommand(app), newDataMixCommand(app), newDataDriftCommand(app), newDataSelectCommand(app))
	return cmd
}

// dataRules maps the failures of data files to exit codes.
func dataRules() []rule {
	return []rule{
		as(exitUsage, saying[*datasets.RowError]("mend the row; where a recipe reads the data, data.on_bad_row: skip leaves such rows out")),
		as(exitUsage, func(e *datasets.ColumnError) string { return didYouMean(e.Nearest) }),
		as[*datasets.EmptyError](exitUsage, nil),
		as(exitGate, saying[*auditError]("--sarif or --output keep where; --max name=number allows more")),
		as[*audit.LimitError](exitUsage, nil),
		as(exitGate, saying[*driftError]("look at the inputs; where they are to stay so, train on them and keep a new baseline")),
		as(exitCorrupt, saying[*drift.BaselineError]("keep a new one with --reference and --save-baseline")),
		as[*drift.SizeError](exitUsage, nil),
		as(exitGate, saying[*piiError]("t5ctl data redact replaces them")),
		as[*datasets.FormatError](exitUsage, nil),
		as[*datasets.FieldError](exitUsage, nil),
		as(exitCorrupt, saying[*datasets.LineageError]("take it away if nobody knows how the data was made")),
		as(exitUsage, saying[*datasets.TooLongError]("lower data.max_input or data.max_target, or give larger data.buckets")),
		as(exitUsage, saying[*datasets.ShareError]("give a larger share, or more rows")),
		as(exitUsage, saying[*datasets.FewRowsError]("ask for fewer, or give more data")),
	}
}

// recordLineage writes beside a data file how this command made it.
func recordLineage(path, command string, options map[string]any, parents []string) error {
	return datasets.WriteLineage(path, datasets.Lineage{Command: command, Tool: "t5ctl " + versionOf().Version, Options: options}, parents)
}

// bindOnBadRow adds --on-bad-row.
func bindOnBadRow(flags *pflag.FlagSet, policy *string) {
	flags.StringVar(policy, "on-bad-row", datasets.Fail, "`fail|skip`: stop at a row that is no example, or leave it out and count it")
}

// checkOnBadRow refuses another word.
func checkOnBadRow(policy string) error {
	if policy != datasets.Fail && policy != datasets.Skip {
		return usageErrorf("--on-bad-row is %q, not %s or %s", policy, datasets.Fail, datasets.Skip)
	}
	return nil
}
