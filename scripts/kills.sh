#!/usr/bin/env bash
# Kills training runs with SIGKILL, 40 times in each way of making batches and 40 times on the
# trainer alone, and writes what came of it to the file $1.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
T5CTL_TEST_KILLS=40 go test -count=1 -p 1 -v -timeout 40m -run '^TestKilled' ./trainer ./cmd/internal/cli >"$log" 2>&1 || {
	cat "$log" >&2
	exit 1
}
{
	echo '# Killed training runs'
	echo
	echo 'What `make test-kills` printed: runs of a tiny model in pure Go that are killed with SIGKILL at random'
	echo 'moments and go on with `--resume`. Every step is a checkpoint, written while the next one is trained.'
	echo
	echo '| run | what came of it |'
	echo '| --- | --- |'
	sed -n 's/^ *[a-z_]*_test.go:[0-9]*: faults: \([^:]*\): \(.*\)$/| \1 | \2 |/p' "$log" | sort -u
	echo
	sed -n 's/^ *--- PASS: \(Test[A-Za-z/]*\) (\(.*\))$/- \1, \2/p' "$log" | sort
	cat scripts/faults-training.md
} >"$1"
