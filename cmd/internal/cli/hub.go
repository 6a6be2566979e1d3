package cli

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
	"github.com/t5ctl/t5ctl/internal/hub"
	"github.com/t5ctl/t5ctl/internal/hub/remote"
)

// hubClient makes a client of the Hugging Face hub that shows its progress; done ends that.
func (a *App) hubClient(title string) (client *remote.Client, done func(), err error) {
	options := remote.FromEnvironment()
	options.Records = filepath.Join(settings.CacheHome(), "t5ctl", "hub")
	var bar *term.Progress
	options.Progress = func(fetched, total int64) {
		if bar == nil {
			bar = a.Term.Progress(title, total, "B")
		}
		bar.Set(min(fetched, total))
	}
	client, err = remote.New(options)
	return client, func() {
		if bar != nil {
			bar.Done()
		}
	}, err
}

// resolveHub finds a model of the hub in the cache that its tools share, and fetches what is missing.
func (a *App) resolveHub(ctx context.Context, text string) (resolvedModel, error) {
	ref, err := hub.ParseModel(text)
	if err != nil {
		return resolvedModel{}, err
	}
	client, done, err := a.hubClient("fetching " + ref.Repo())
	if err != nil {
		return resolvedModel{}, err
	}
	pulled, err := client.Have(ctx, ref)
	done()
	if err != nil {
		return resolvedModel{}, err
	}
	m, err := a.resolveFolder(ctx, pulled.Dir)
	m.Ref = ref.At(pulled.Commit).String()
	return m, err
}

// fetchData sees to it that data of the hub is in the cache; other paths are left alone.
func (a *App) fetchData(ctx context.Context, lists ...[]string) error {
	for _, list := range lists {
		for _, path := range list {
			if !hub.IsRef(path) {
				continue
			}
			ref, err := hub.ParseData(path)
			if err != nil {
				return err
			}
			client, done, err := a.hubClient("fetching " + ref.Repo())
			if err != nil {
				return err
			}
			_, err = client.Have(ctx, ref)
			done()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// runPullHub fetches a model, or the files of a data set, from the hub.
func runPullHub(ctx context.Context, app *App, text, output string) error {
	ref, err := hub.ParseModel(text)
	if data, dataErr := hub.ParseData(text); err != nil && dataErr == nil {
		ref, err = data, nil
	}
	if err != nil {
		return err
	}
	client, done, err := app.hubClient("fetching " + ref.Repo())
	if err != nil {
		return err
	}
	pulled, err := client.Pull(ctx, ref)
	done()
	if err != nil {
		return fmt.Errorf("pulling %s: %w", text, err)
	}
	dir := pulled.Dir
	if output != "" {
		if err := pulled.Copy(output); err != nil {
			return fmt.Errorf("pulling %s: %w", text, err)
		}
		dir = output
	}
	result := struct {
		remote.Pulled
		Output string `json:"output,omitempty"`
	}{pulled, output}
	return app.show(result, func(t *term.Terminal) {
		t.Printf("%s -> %s\n", ref.At(pulled.Commit), dir)
		tab := term.Table{Header: []string{"FILE", "SIZE", "STATE"}, Right: []int{1}}
		for _, f := range pulled.Files {
			state := "there already"
			if f.Fetched {
				state = "fetched, checked"
			}
			tab.Add(f.Path, term.Size(f.Size), state)
		}
		t.Table(tab)
	})
}

// runPushHub writes a folder in the form of a repository of the hub.
func runPushHub(app *App, opts pushOptions) error {
	ref, err := hub.ParseModel(opts.name)
	if err != nil {
		return err
	}
	if opts.output == "" {
		return hintedUsageError{usageErrorf("--output is missing: the folder that is to be uploaded"), "t5ctl push " + opts.dir + " " + opts.name + " --output FOLDER"}
	}
	opts.name = strings.ToLower(ref.Name)
	request, err := opts.request()
	if err != nil {
		return fmt.Errorf("pushing %s: %w", opts.dir, err)
	}
	source, err := opts.source()
	if err != nil {
		return fmt.Errorf("pushing %s: %w", opts.dir, err)
	}
	if err := source.WriteHub(opts.output, request); err != nil {
		return fmt.Errorf("pushing %s: %w", opts.dir, err)
	}
	upload := "hf upload " + ref.Repo() + " " + opts.output
	return app.show(map[string]any{"repository": ref.Repo(), "folder": opts.output, "upload": upload}, func(t *term.Terminal) {
		t.Printf("%s holds what https://huggingface.co/%s is to hold; this uploads it:\n  %s\n", opts.output, ref.Repo(), upload)
	})
}

// hubRules are the failures of the hub.
func hubRules() []rule {
	return []rule{
		as(exitUsage, func(e *hub.RefError) string {
			if name, ok := strings.CutPrefix(e.Text, hub.Prefix); ok && !strings.Contains(name, "/") {
				return "names on the hub have an owner: " + hub.Prefix + "google-t5/" + name
			}
			return ""
		}),
		as(exitNotFound, func(e *hub.MissingError) string {
			switch {
			case e.Offline:
				return "HF_HUB_OFFLINE is set, so nobody was asked; t5ctl pull " + e.Ref + " without it fetches it"
			case e.Denied:
				return "if it is private, HF_TOKEN or `hf auth login` opens it"
			case hub.IsRef(e.Ref):
				return "t5ctl pull " + e.Ref + " asks the hub again"
			}
			return ""
		}),
		as(exitUsage, func(e *remote.PickleError) string {
			return fmt.Sprintf(`python3 -c "from transformers import *; r='%s'; AutoModelForSeq2SeqLM.from_pretrained(r).save_pretrained('converted'); AutoTokenizer.from_pretrained(r).save_pretrained('converted')"`, e.Repo)
		}),
		as[*remote.NoModelError](exitUsage, nil),
		as(exitCorrupt, saying[*remote.ChecksumError]("nothing of it was kept; a proxy or mirror in between may have changed it")),
		as[*remote.ListingError](exitCorrupt, nil),
		as(exitNetwork, func(e *remote.StatusError) string {
			switch {
			case e.Status == http.StatusUnauthorized:
				return "HF_TOKEN or `hf auth login` says who you are; a token goes to an https address or this machine only"
			case e.Status == http.StatusForbidden:
				return "its owner asks for more: look at the page of " + e.What + " on the hub, and whether the token may read it"
			}
			return ""
		}),
		as(exitNetwork, saying[*remote.UnreachableError]("the same command goes on where it stopped")),
	}
}
