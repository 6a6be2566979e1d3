// Command gendocs writes what is made from the command tree and the option structs: docs/cli, man
// pages, shell completions, and the JSON schema of recipes. It keeps this code out of the tool.
//
// The same source gives the same files, byte for byte; a file that is no longer made is removed.
package main

//go:generate go run . -root ../..

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/t5ctl/t5ctl/cmd/internal/cli"
	"github.com/t5ctl/t5ctl/recipes/schemagen"
)

// folders hold generated files alone.
func folders() []string { return []string{"docs/cli", "docs/man", "completions"} }

func main() {
	root := flag.String("root", ".", "`folder` of go.mod")
	flag.Parse()
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	files, err := generate(root)
	if err != nil {
		return err
	}
	for _, folder := range folders() {
		if err := os.RemoveAll(filepath.Join(root, folder)); err != nil {
			return err
		}
	}
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate makes all files, by their path below root.
func generate(root string) (map[string][]byte, error) {
	tree := cli.NewRoot(cli.NewApp(strings.NewReader(""), io.Discard, io.Discard))
	tree.DisableAutoGenTag = true
	tree.InitDefaultHelpCmd()
	files := make(map[string][]byte)
	if err := commandPages(tree, files); err != nil {
		return nil, err
	}
	if err := completions(tree, files); err != nil {
		return nil, err
	}
	schema, err := schemagen.Recipe(root)
	if err != nil {
		return nil, err
	}
	files["recipes/schema.json"] = schema
	return files, nil
}

// commandPages makes a page of docs/cli and a man page for each command and help topic.
func commandPages(cmd *cobra.Command, files map[string][]byte) error {
	for _, sub := range cmd.Commands() {
		if err := commandPages(sub, files); err != nil {
			return err
		}
	}
	if cmd.Hidden {
		return nil
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	if cmd.IsAdditionalHelpTopicCommand() {
		files["docs/cli/"+cmd.Name()+".md"] = topicPage(cmd)
		return nil
	}
	var page, man bytes.Buffer
	if err := doc.GenMarkdownCustom(cmd, &page, link); err != nil {
		return err
	}
	if !cmd.HasParent() {
		topicIndex(cmd, &page)
	}
	files["docs/cli/"+name+".md"] = page.Bytes()
	header := doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "t5ctl", Manual: "t5ctl manual", Date: new(time.Time)}
	if err := doc.GenMan(cmd, &header, &man); err != nil {
		return err
	}
	undated := strings.ReplaceAll(man.String(), `"Jan 0001"`, `""`) // a date would change without the text
	files["docs/man/"+name+".1"] = []byte(undated)
	return nil
}

// link turns cobra's names of pages, with underscores, into ours.
func link(name string) string { return strings.ReplaceAll(name, "_", "-") }

func topicPage(cmd *cobra.Command) []byte {
	return fmt.Appendf(nil, "## %s\n\n%s\n\n```\n%s```\n", cmd.Name(), cmd.Short, cmd.Long)
}

func topicIndex(root *cobra.Command, page *bytes.Buffer) {
	page.WriteString("\n### Help topics\n\n")
	for _, cmd := range root.Commands() {
		if cmd.IsAdditionalHelpTopicCommand() {
			fmt.Fprintf(page, "* [%s](%s.md)\t - %s\n", cmd.Name(), cmd.Name(), cmd.Short)
		}
	}
}

func completions(root *cobra.Command, files map[string][]byte) error {
	var bash, zsh, fish, powershell bytes.Buffer
	for _, err := range []error{
		root.GenBashCompletionV2(&bash, true), root.GenZshCompletion(&zsh),
		root.GenFishCompletion(&fish, true), root.GenPowerShellCompletionWithDesc(&powershell),
	} {
		if err != nil {
			return err
		}
	}
	files["completions/t5ctl.bash"] = bash.Bytes()
	files["completions/_t5ctl"] = zsh.Bytes()
	files["completions/t5ctl.fish"] = fish.Bytes()
	files["completions/t5ctl.ps1"] = powershell.Bytes()
	return nil
}
