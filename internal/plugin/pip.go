package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// fetchByPip lets pip download the wheel. pip may leave the file under a name of its own; the
// digest decides whether it is the right one.
func (j *job) fetchByPip(ctx context.Context, wheel Wheel, dir string) (string, error) {
	python, err := findPython()
	if err != nil {
		return "", err
	}
	into := filepath.Join(dir, "pip")
	scratch := filepath.Join(dir, "tmp")
	for _, path := range []string{into, scratch} {
		if err := os.Mkdir(path, 0o755); err != nil {
			return "", err
		}
	}
	args := []string{
		"-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
		"--disable-pip-version-check", "--progress-bar=off", "--dest", into,
	}
	if j.options.IndexURL != "" {
		args = append(args, "--index-url", j.options.IndexURL)
	}
	cmd := pipCommand(ctx, python, append(args, wheel.Name+"=="+wheel.Version)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+scratch)
	if err := j.runPip(cmd, dir); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(into, "*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("pip left %d wheels of %s %s", len(found), wheel.Name, wheel.Version)
	}
	return found[0], nil
}

// findPython finds the Python that a user of this machine would start.
func findPython() (string, error) {
	for _, name := range []string{"python3", "python"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errPipAbsent
}

// pipCommand is pip with the user's settings, but for those that refuse any work outside a
// virtual environment: nothing is installed into Python here.
func pipCommand(ctx context.Context, python string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Env = append(os.Environ(), "PIP_REQUIRE_VIRTUALENV=0", "PYTHONDONTWRITEBYTECODE=1")
	cmd.WaitDelay = time.Second // for children that hold the pipes open
	return cmd
}

// runPip runs pip and tells how much there is in dir, which grows as pip downloads.
func (j *job) runPip(cmd *exec.Cmd, dir string) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("pip: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return pipError(err, stderr.String())
			}
			return nil
		case <-tick.C:
			if done := folderSize(dir); done > j.progress.now.Done && done < j.progress.now.Total {
				j.progress.set(done)
			}
		}
	}
}

// pipError keeps the last thing that pip complained of.
func pipError(err error, stderr string) error {
	if strings.Contains(stderr, "No module named pip") {
		return errPipAbsent
	}
	last := ""
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "ERROR: "); ok {
			last = text
		} else if line != "" && last == "" {
			last = line
		}
	}
	if last == "" {
		return fmt.Errorf("pip: %w", err)
	}
	return errors.New("pip: " + last)
}

// pipIndex is the index that the user has set up pip for, empty if there is none.
func pipIndex(ctx context.Context) string {
	if url := os.Getenv("PIP_INDEX_URL"); url != "" {
		return url
	}
	python, err := findPython()
	if err != nil {
		return ""
	}
	out, err := pipCommand(ctx, python, "-m", "pip", "config", "get", "global.index-url").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
