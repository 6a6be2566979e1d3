// Command gendocs writes what is made from the command tree and the option structs: docs/cli and
// the JSON schema of recipes, which the repository keeps, and with -release the man pages and shell
// completions, which only a release holds. It keeps this code out of the tool.
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

func main() {
	root := flag.String("root", ".", "`folder` of go.mod")
	release := flag.String("release", "", "`folder` for man pages and completions, written instead of what the repository keeps")
	flag.Parse()
	if err := run(*root, *release); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(root, release string) error {
	if release != "" {
		files, err := forRelease()
		if err != nil {
			return err
		}
		return write(release, files, "man", "completions")
	}
	files, err := forRepository(root)
	if err != nil {
		return err
	}
	return write(root, files, "docs/cli")
}

// write puts files below root; the folders hold nothing else.
func write(root string, files map[string][]byte, folders ...string) error {
	for _, folder := range folders {
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

// commands is the tree that everything is made of.
func commands() *cobra.Command {
	tree := cli.NewRoot(cli.NewApp(strings.NewReader(""), io.Discard, io.Discard))
	tree.DisableAutoGenTag = true
	tree.InitDefaultHelpCmd()
	return tree
}

// forRepository makes the files that are kept, by their path below root.
func forRepository(root string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	err := each(commands(), func(cmd *cobra.Command, name string) error {
		if cmd.IsAdditionalHelpTopicCommand() {
			files["docs/cli/"+cmd.Name()+".md"] = topicPage(cmd)
			return nil
		}
		var page bytes.Buffer
		err := doc.GenMarkdownCustom(cmd, &page, link)
		if !cmd.HasParent() {
			topicIndex(cmd, &page)
		}
		files["docs/cli/"+name+".md"] = page.Bytes()
		return err
	})
	if err != nil {
		return nil, err
	}
	files["recipes/schema.json"], err = schemagen.Recipe(root)
	return files, err
}

// forRelease makes man pages and completions.
func forRelease() (map[string][]byte, error) {
	files := make(map[string][]byte)
	tree := commands()
	err := each(tree, func(cmd *cobra.Command, name string) error {
		if cmd.IsAdditionalHelpTopicCommand() {
			return nil
		}
		var man bytes.Buffer
		header := doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "t5ctl", Manual: "t5ctl manual", Date: new(time.Time)}
		err := doc.GenMan(cmd, &header, &man)
		undated := strings.ReplaceAll(man.String(), `"Jan 0001"`, `""`) // a date would change without the text
		files["man/"+name+".1"] = []byte(undated)
		return err
	})
	if err != nil {
		return nil, err
	}
	return files, completions(tree, files)
}

// each visits the commands and help topics that are shown, with their names as files have them.
func each(cmd *cobra.Command, visit func(cmd *cobra.Command, name string) error) error {
	for _, sub := range cmd.Commands() {
		if err := each(sub, visit); err != nil {
			return err
		}
	}
	if cmd.Hidden {
		return nil
	}
	return visit(cmd, strings.ReplaceAll(cmd.CommandPath(), " ", "-"))
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
