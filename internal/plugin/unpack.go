package plugin

import (
	"archive/zip"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// unpack puts those members of a wheel that the table names into dir, and its licences into
// dir/licenses. The wheel has been checked against its digest before.
func (j *job) unpack(ctx context.Context, wheel Wheel, file, dir string) error {
	archive, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer archive.Close() //nolint:errcheck // read only
	wanted := map[string]string{}
	var total int64
	for _, member := range archive.File {
		if to := wheel.destination(member.Name); to != "" {
			wanted[member.Name] = to
			total += int64(member.UncompressedSize64) //nolint:gosec // a size that no disk has only spoils the display
		}
	}
	for from := range wheel.Extract {
		if _, ok := wanted[from]; !ok && !strings.HasSuffix(from, "/") {
			return fmt.Errorf("there is no %s in it", from)
		}
	}
	j.progress.start(StepUnpack, wheel.File, total)
	for _, member := range archive.File {
		if to := wanted[member.Name]; to != "" {
			if err := j.unpackMember(ctx, member, filepath.Join(dir, filepath.FromSlash(to))); err != nil {
				return err
			}
		}
	}
	return nil
}

// unpackMember writes one member. Its check sum is compared at its end.
func (j *job) unpackMember(ctx context.Context, member *zip.File, to string) error {
	in, err := member.Open()
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	mode := os.FileMode(0o644)
	if member.Mode()&0o111 != 0 {
		mode = 0o755
	}
	return j.write(ctx, in, to, mode)
}

// destination is where a member of the wheel goes, below the plugin's folder and slash-separated;
// empty: nowhere, as for folders and names that are not plain.
func (w Wheel) destination(member string) string {
	if path.Clean(member) != member || !filepath.IsLocal(filepath.FromSlash(member)) {
		return ""
	}
	if license(member) {
		return path.Join("licenses", w.Name, path.Base(member))
	}
	for from, to := range w.Extract {
		switch rest, below := strings.CutPrefix(member, from); {
		case member == from:
			return to
		case below && strings.HasSuffix(from, "/"):
			return to + rest
		}
	}
	return ""
}
