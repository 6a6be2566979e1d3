#!/usr/bin/env bash
# Opens the pages of `t5ctl runs view` in a headless Chromium: an open page follows a training, nothing
# is blocked or fails, and without scripts a page looks the same; then the pages of bin/t5ctl over the
# runs and a registry of its own. With a folder as its argument, it keeps pictures there.
# Skips out loud where there is no Chromium; $CHROMIUM names one.
#
#     scripts/check-view.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
pictures=${1:-}

browser=${CHROMIUM:-}
for name in chromium chromium-browser google-chrome chrome chromium-headless-shell headless_shell; do
  [ -n "$browser" ] || browser=$(command -v "$name" || true)
done
if [ -z "$browser" ]; then
  echo 'SKIPPED: no Chromium found: make check-tools, or set CHROMIUM to one' >&2
  exit 0
fi
T5CTL_CHROMIUM=$browser go test -count=1 -run TestChromium ./internal/view

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
fail() { echo "check-view: $1" >&2; exit 1; }
program=$PWD/bin/t5ctl
t5ctl() { T5CTL_REGISTRY="$work/registry" "$program" "$@"; }

# A run that is done, with a report; one that still trains, from the first part of the same log; and a
# model whose promotion was refused.
mkdir "$work/runs"
cp -r models/records/g2p-base "$work/runs/g2p-base"
cp -r models/records/g2p-base "$work/runs/g2p-longer"
sed -i 's/"outcome": "done"/"outcome": "running"/' "$work/runs/g2p-longer/run.json"
time_of() { sed 's/.*"time":"\([^"]*\)".*/\1/'; }
head -n 150 models/records/g2p-base/events.jsonl >"$work/part.jsonl"
late=$(($(date +%s) - $(date -d "$(tail -n 1 "$work/part.jsonl" | time_of)" +%s)))
while read -r line; do # the same times, the last of them now
  was=$(time_of <<<"$line")
  echo "${line/"$was"/$(date -u -d "@$(($(date -d "$was" +%s) + late))" +%FT%TZ)}"
done <"$work/part.jsonl" >"$work/runs/g2p-longer/events.jsonl"
printf 'the cat sat on the mat\na dog ran in the park\n' >"$work/ref.txt"
printf 'the cat sat on a mat\na dog runs in the park\n' >"$work/hyp.txt"
t5ctl eval score --hypotheses "$work/hyp.txt" --references "$work/ref.txt" --metric chrf --metric wer \
  --output "$work/runs/g2p-base/reports" --name test >/dev/null
t5ctl push models/g2p-base g2p --license apache-2.0 --language en >/dev/null
! t5ctl promote g2p@v1 --to staging --quiet 2>/dev/null || fail 'a version without evidence was promoted'

(cd "$work" && T5CTL_REGISTRY="$work/registry" exec "$program" runs view --no-open) >"$work/address" 2>/dev/null &
server=$!
for _ in $(seq 100); do [ -s "$work/address" ] && break; sleep 0.1; done
address=$(cat "$work/address")
[ -n "$address" ] || fail 'the server did not start'

look() { # PATH TEXT: the page has the text, and the browser nothing to complain of
  "$browser" --headless --no-sandbox --disable-gpu --enable-logging=stderr --virtual-time-budget=3000 \
    --dump-dom "$address$1" >"$work/dom.html" 2>"$work/log.txt"
  grep -qF "$2" "$work/dom.html" || fail "/$1 lacks $2"
  ! grep -q 'CONSOLE' "$work/log.txt" || fail "/$1: the browser complained: $(grep -m1 CONSOLE "$work/log.txt")"
}
look '' ' left</small>'
look runs/g2p-base 'chrF'
look 'curves?run=g2p-base&run=g2p-longer' 'data-name="g2p-longer"'
look runs/g2p-base/reports/test.json 'Evaluation'
look models/g2p 'no gate result is stored with it'

draw() { # NAME PATH SIZE [OPTION]
  "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size="$3" ${4:+"$4"} \
    --screenshot="$pictures/$1" "$address$2" 2>/dev/null
}
if [ -n "$pictures" ]; then
  draw view-runs.png '' 1100,330
  draw view-run.png runs/g2p-base 1100,830 --blink-settings=preferredColorScheme=0
fi
echo "check-view: the pages are well ($browser)"
