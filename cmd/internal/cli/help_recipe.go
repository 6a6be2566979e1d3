package cli

func recipeText() string {
	return "A recipe is a YAML file that says what a run does: the base model, the data,\n" +
		"how it is trained, evaluated, and gated. An unknown key is an error, and all\n" +
		"problems are told at once.\n\n" +
		definitionList([][2]string{
			{"t5ctl recipe list", "the recipes that come with t5ctl"},
			{"t5ctl recipe copy NAME", "one of them as a file to change"},
			{"t5ctl recipe schema", "every key and what it means, as JSON schema"},
			{"--set train.steps=200", "a key given on the command line; wins over the file"},
			{"T5CTL_TRAIN_STEPS=200", "the same from the environment; --set wins over it"},
		})
}
