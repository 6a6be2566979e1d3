#!/usr/bin/env bash
# Runs a command that writes files and fails if it has changed any that the repository keeps or
# would keep. Works in a tree with changes too.
#
#   scripts/unchanged.sh COMMAND [ARGUMENT...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sums() {
    git ls-files -co --exclude-standard -z | xargs -0 sha256sum -- 2>/dev/null || true
}

before=$(sums)
"$@"
if ! changed=$(diff <(printf '%s\n' "$before") <(sums)); then
    echo "these files were not up to date; they are now, commit them:" >&2
    sed -n 's/^[<>] [0-9a-f]*  /  /p' <<<"$changed" | sort -u >&2
    exit 1
fi
