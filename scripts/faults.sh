#!/usr/bin/env bash
# Runs the long fault tests of the registry and writes what they found to the file $1.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
T5CTL_FAULTS=1 T5CTL_REQUIRE_TOOLS=1 go test -count=1 -p 1 -v -timeout 30m ./registry/... >"$log" 2>&1 || {
	grep -E '^ *(---|[a-z_]+_test.go:)|FAIL' "$log" | grep -v -- '--- PASS' >&2
	exit 1
}
large=$(scripts/large-version.sh)
{
	echo '# Faults'
	echo
	echo 'What `make test-faults` printed: processes that are killed, disks that are full, bytes that change,'
	echo 'writers that come at once, servers that fail, attacks, against a folder and against real servers on this'
	echo 'machine (`distribution` v3.1.2 and, where it is there, Debian'"'"'s `docker-registry` as processes of'
	echo 'their own; `ocimem`, with and without tags that move).'
	echo
	echo '| place | what was done, and what came of it |'
	echo '| --- | --- |'
	sed -n 's/^ *[a-z_]*_test.go:[0-9]*: faults: \([^:]*\): \(.*\)$/| \1 | \2 |/p' "$log" | sort -u
	echo "| folder | $large |"
	echo
	cat scripts/faults.md
	echo
	echo 'Tests that passed, with those that were skipped:'
	echo
	sed -n 's/^--- \(PASS\|SKIP\): \(Test[A-Za-z]*\) (\(.*\))$/\2, \1, \3/p' "$log" | sed 's/, PASS,/,/; s/, SKIP,/: **skipped**,/; s/^/- /' | sort
} >"$1"
# What the tables name must be among what has run.
grep -o '`Test[A-Za-z]*' scripts/faults.md | tr -d '`' | sort -u | while read -r name; do
	grep -q -- "^--- [A-Z]*: $name " "$log" || { echo "scripts/faults.md names $name, which did not run" >&2; exit 1; }
done
