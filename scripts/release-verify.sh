#!/usr/bin/env bash
# Checks what `make release-snapshot` has left in dist/ as who installs it would: checksums, what is
# in archives and packages, and the binary of the deb, which is unpacked and run. Programs of other
# systems are looked at, not run.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fail() { echo "release: $*" >&2; exit 1; }
cd dist
sha256sum --check --quiet checksums.txt
deb=$(ls t5ctl_*_linux_amd64.deb) || fail 'no deb in dist/: make release-snapshot'
version=${deb#t5ctl_} version=${version%_linux_amd64.deb}
[ "$(wc -l <checksums.txt)" = 14 ] || fail "checksums.txt lists $(wc -l <checksums.txt) files, not 5 archives, 4 packages and 5 bills of materials"

# Archives: binary, licence, guides, base model, man pages, completions; nothing that leads out of the folder.
for archive in t5ctl_"$version"_*.tar.gz t5ctl_"$version"_*.zip; do
	case $archive in
	*.zip) python3 -m zipfile --list "$archive" | awk 'NR > 1 {print $1}' >"$root/list" ;;
	*) tar --list --gzip --file "$archive" >"$root/list" ;;
	esac
	! grep -E '^/|(^|/)\.\.(/|$)' "$root/list" || fail "$archive holds a path that leads out of it"
	for name in 't5ctl(\.exe)?' LICENSE README.md CHANGELOG.md DATA-LICENSES.md docs/guides/first-model.md models/g2p-base/config.json man/t5ctl.1 man/t5ctl-push.1 completions/t5ctl.bash completions/_t5ctl completions/t5ctl.fish completions/t5ctl.ps1; do
		grep -qxE "$name" "$root/list" || fail "$archive holds no $name"
	done
done

# Bills of materials: CycloneDX, with the modules that count.
for bill in t5ctl_"$version"_*.cdx.json; do
	python3 - "$bill" <<'END' || fail "$bill is no bill of materials"
import json, sys
bill = json.load(open(sys.argv[1]))
assert bill["bomFormat"] == "CycloneDX", bill["bomFormat"]
names = {c["name"] for c in bill["components"]}
assert {"github.com/gomlx/gomlx", "github.com/spf13/cobra"} <= names, sorted(names)
assert all(c.get("version") for c in bill["components"])
END
done

# Binaries of all platforms: of the right kind, and not too large.
kind() { head -c "$2" "$1" | od -An -tx1 | tr -d ' \n'; }
for binary in */t5ctl */t5ctl.exe; do
	size=$(stat -c %s "$binary")
	[ "$size" -le $((60 << 20)) ] || fail "$binary has $size bytes, more than 60 MiB"
	case $binary in
	*linux*) want=7f454c46 ;;
	*darwin*) want=cffaedfe ;;
	*windows*) want=4d5a ;;
	esac
	[ "$(kind "$binary" $((${#want} / 2)))" = $want ] || fail "$binary is not a program of its system"
	echo "release: $binary, $((size >> 20)) MiB"
done

# The deb, unpacked and run with an empty home.
dpkg-deb --extract "$deb" "$root/installed"
export HOME=$root/home XDG_DATA_HOME=$root/home/data
mkdir -p "$HOME"
t5ctl=$root/installed/usr/bin/t5ctl
"$t5ctl" version --json >"$root/version.json"
python3 - "$root/version.json" "$version" <<'END'
import json, sys
v = json.load(open(sys.argv[1]))
assert v["version"] == "v" + sys.argv[2], v
assert len(v["commit"]) == 40 and not v["modified"], v
assert v["build"]["GOEXPERIMENT"] == "simd" and v["build"]["CGO_ENABLED"] == "1", v
assert v["platform"] == "linux/amd64", v
END
"$t5ctl" --help | grep -q finetune
for file in man/man1/t5ctl.1* bash-completion/completions/t5ctl zsh/vendor-completions/_t5ctl fish/vendor_completions.d/t5ctl.fish doc/t5ctl/copyright; do
	ls "$root"/installed/usr/share/$file >/dev/null || fail "the deb holds no $file"
done
"$t5ctl" --quiet init "$root/project" </dev/null >/dev/null
"$t5ctl" recipe validate "$root/project/recipe.yaml" >/dev/null || fail 'the recipe of t5ctl init is not valid'
echo "release: the deb of $version runs: $("$t5ctl" version | head -n 1)"

# What the start costs: medians of 15, of processor time, which other work on the machine changes
# less than the time on the wall.
python3 - "$t5ctl" <<'END'
import resource, statistics, subprocess, sys
def spent():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (used.ru_utime + used.ru_stime)
for argument, most in (("version", 30), ("--help", 60)):
    took = []
    for _ in range(15):
        start = spent()
        subprocess.run([sys.argv[1], argument], stdout=subprocess.DEVNULL, check=True)
        took.append(spent() - start)
    median = statistics.median(took)
    print(f"release: t5ctl {argument}: {median:.0f} ms, at most {most}")
    assert median <= most
END
