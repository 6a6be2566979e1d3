#!/usr/bin/env bash
# Pushes, verifies and pulls a version of 10 GB (GB) in bin/t5ctl and prints the most memory that each
# took; more than 64 MiB is an error. The weights are a sparse file; the registry holds it in full, so
# three times that much disk is asked for.
set -euo pipefail
cd "$(dirname "$0")/.."
t5ctl=${T5CTL:-$PWD/bin/t5ctl} gb=${GB:-10}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ "$(df --output=avail -B1G "$work" | tail -1)" -ge $((3 * gb)) ] || { echo "large-version: $work has no $((3 * gb)) GB free" >&2; exit 1; }
export HOME=$work XDG_DATA_HOME=$work/data XDG_STATE_HOME=$work/state XDG_CACHE_HOME=$work/cache
mkdir "$work/model"
echo '{"model_type": "t5"}' >"$work/model/config.json"
truncate --size "${gb}G" "$work/model/model.safetensors"
python3 - "$t5ctl" "$work" "$gb" <<'END'
import os, subprocess, sys
t5ctl, work, gb = sys.argv[1:]
told = []
for name, args in {
    "push": ["push", work + "/model", "m", "--license", "mit", "--language", "en"],
    "verify": ["verify", "m@v1"],
    "pull": ["pull", "m@v1", "--output", work + "/pulled"],
}.items():
    child = subprocess.Popen([t5ctl, "--quiet", *args], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"large-version: t5ctl {name} failed")
    mib = used.ru_maxrss / 1024
    told.append(f"{name} {mib:.0f} MiB")
    if mib > 64:
        sys.exit(f"large-version: t5ctl {name} took {mib:.0f} MiB, 64 are allowed")
print(f"a version of {gb} GB: at most " + ", ".join(told) + " of memory")
END
