package card

import (
	"regexp"
	"strings"

	"github.com/t5ctl/t5ctl/internal/nearest"
)

// licenses are the identifiers that the hub knows, as of its documentation in 2026.
const licenses = `apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0
openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license
llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other`

// tasks are the hub's pipeline tags that a text-to-text model can have.
const tasks = `text2text-generation translation summarization text-generation question-answering table-question-answering
text-classification token-classification sentence-similarity feature-extraction text-to-speech automatic-speech-recognition
zero-shot-classification fill-mask text-ranking other`

// libraries are those that load what this tool writes.
const libraries = `transformers peft adapter-transformers sentence-transformers`

const relations = `adapter merge quantized finetune`

//nolint:gochecknoglobals // compiled once, never changed
var languageTag = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$|^(multilingual|code)$`)

func checkLanguage(s string) string {
	if !languageTag.MatchString(s) {
		return "is not a language code such as en"
	}
	return ""
}

func checkLicense(s string) string { return oneOf(s, licenses, "is not a licence that the hub knows") }

func checkTask(s string) string { return oneOf(s, tasks, "is not a task of a text-to-text model") }

func checkLibrary(s string) string {
	return oneOf(s, libraries, "does not load T5 models")
}

func checkRelation(s string) string {
	return oneOf(s, relations, "is not a relation that the hub knows")
}

// oneOf says why a word is not on a list, naming the one it may have meant.
func oneOf(s, list, reason string) string {
	known := strings.Fields(list)
	for _, k := range known {
		if k == s {
			return ""
		}
	}
	if near := nearest.Of(s, known); near != "" {
		return reason + "; did you mean " + near + "?"
	}
	return reason
}
