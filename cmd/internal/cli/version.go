package cli

import (
	"context"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/t5ctl/t5ctl/cmd/internal/term"
)

// releaseVersion is set by the linker in a release: -X …/cmd/internal/cli.releaseVersion=v1.2.3.
var releaseVersion string //nolint:gochecknoglobals // the linker can set nothing else

// versionInfo says what binary this is.
type versionInfo struct {
	Version  string            `json:"version"`
	Commit   string            `json:"commit"`
	Modified bool              `json:"modified"` // built from a tree with changes that no commit holds
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	Build    map[string]string `json:"build"` // settings that change what the binary does
	Modules  map[string]string `json:"modules"`
}

// versionOf reads the facts that the Go tool put into the binary.
func versionOf() versionInfo {
	v := versionInfo{
		Version: releaseVersion, Commit: "unknown", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Build: map[string]string{}, Modules: map[string]string{},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		v.Version = orElse(v.Version, "unknown")
		return v
	}
	v.Version = orElse(v.Version, info.Main.Version)
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Commit = s.Value
		case s.Key == "vcs.modified":
			v.Modified = s.Value == "true"
		case s.Key == "CGO_ENABLED", s.Key == "GOEXPERIMENT", s.Key == "GOAMD64", s.Key == "-tags", s.Key == "-race":
			v.Build[s.Key] = s.Value
		}
	}
	for _, m := range info.Deps {
		if name := m.Path; strings.HasPrefix(name, "github.com/gomlx/") {
			v.Modules[name] = m.Version
		}
	}
	return v
}

func newVersionCommand(app *App) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version, the commit, and how the binary was built",
		Example: "  t5ctl version --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runVersion(cmd.Context(), app)
		},
	}
}

func runVersion(_ context.Context, app *App) error {
	v := versionOf()
	return app.show(v, func(t *term.Terminal) {
		t.Printf("t5ctl %s (commit %s, %s, %s)\n", v.Version, v.Commit, v.Go, v.Platform)
		var keys []string
		for k := range v.Build {
			keys = append(keys, k)
		}
		for _, k := range slices.Sorted(slices.Values(keys)) {
			t.Printf("  %s=%s\n", k, v.Build[k])
		}
	})
}
