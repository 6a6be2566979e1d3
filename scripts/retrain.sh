#!/bin/sh
# retrain.sh MODEL@CHANNEL INPUTS RECIPE GATES: one scheduled look at the inputs of a model that serves.
#
# INPUTS are the rows of the day (JSON lines with "input"). Inputs like those of the baseline: nothing is done. Inputs
# that have drifted: the recipe trains on from what serves, the new version is evaluated, gated, pushed, and promoted to the channel
# "canary", where `t5ctl canary judge` decides further. Settings of the recipe, such as new training data, come as
# --set key=value behind the four arguments. BASELINE is where the reference is kept (default drift.json); the first
# run makes it of the file REFERENCE. Exit code 0: done, whether there was something to do or not; 3: the new version
# did not pass its gates; else that of the step that failed. Two runs at once exclude each other.
set -eu
[ $# -ge 4 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
model=$1 inputs=$2 recipe=$3 gates=$4
shift 4
name=${model%@*}
baseline=${BASELINE:-drift.json}
folder=${FOLDER:-runs}
mkdir -p "$folder"
mkdir "$folder/.retrain" 2>/dev/null || { echo "retrain: $folder/.retrain is there: another run is at work" >&2; exit 5; }
trap 'rm -rf "$folder/.retrain"' EXIT
trap 'exit 130' INT TERM

if [ ! -f "$baseline" ]; then
	t5ctl data drift --model "$model" --reference "${REFERENCE:?a file of inputs that the model was made for}" --save-baseline "$baseline"
fi
status=0
t5ctl data drift "$inputs" --model "$model" --baseline "$baseline" --prometheus "$folder/drift.prom" \
	--recipe "$recipe" --job "$folder/.retrain/job.sh" || status=$?
case $status in
0) echo "retrain: no drift; nothing to do" >&2; exit 0 ;;
3) [ -f "$folder/.retrain/job.sh" ] || exit 3 ;;
*) exit "$status" ;;
esac

RUN=
while [ -z "$RUN" ] || [ -e "$RUN" ]; do # two within a second have two folders
	[ -z "$RUN" ] || sleep 1
	RUN=$folder/$name-$(date -u +%Y%m%dT%H%M%SZ)
done
export RUN GATES="$gates"
"$folder/.retrain/job.sh" "$@"
version=$(t5ctl registry list "$name" --json | sed -n 's/.*"version": *\([0-9]*\).*/\1/p' | sort -n | tail -1)
t5ctl promote "$name@v$version" --to canary --reason "retrained on drifted inputs"

# The encoder of the baseline is the serving version's: a new one is kept once the new version serves there.
echo "retrain: $name@v$version is the canary; t5ctl canary judge decides, and after its promotion remove $baseline" >&2
