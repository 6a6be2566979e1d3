#!/usr/bin/env bash
# The life of a model on real data: a small byte-level base that spells out English words as
# phonemes learns lexical stress, is measured, gated, kept as a version, promoted and used.
#
# Writes to build/demo and, for the compute plugin, to t5ctl's plugin folder. Fails if a station
# fails, if the word error rate is above 50 %, or if BLEU gains less than 55 points.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=build/demo
base=${DEMO_BASE:-models/g2p-base}
recipe=cmudict-stress
train=recipes/data/cmudict-stress/train.jsonl.gz
max_wer=50
min_gain=55

names=()
seconds=()

# station NAME COMMAND... runs a command, shows it, and keeps its time.
station() {
    local name=$1 start end
    shift
    printf '\n== %s\n$ %s\n' "$name" "$*"
    start=$EPOCHREALTIME
    "$@"
    end=$EPOCHREALTIME
    names+=("$name")
    seconds+=("$(awk -v a="$start" -v b="$end" 'BEGIN {printf "%.1f", b - a}')")
}

# score REPORT METRIC prints a score over all rows.
score() {
    awk -v want="$2" '
        /"metrics": \[/ {inside = 1}
        inside && /^      "name":/ {name = value()}
        inside && /^      "score":/ {number = value()}
        inside && /^      "slice":/ && name == want && value() == "" {print number; found = 1; exit}
        function value(text) {text = $0; sub(/^[^:]*: /, "", text); gsub(/[",]/, "", text); return text}
        END {exit !found}' "$1"
}

# signature REPORT METRIC prints how a score was computed.
signature() {
    awk -v want="$2" '
        /^      "name":/ {gsub(/[",]/, "", $2); name = $2}
        /^      "signature":/ && name == want {gsub(/[",]/, "", $2); print $2; exit}' "$1"
}

rm -rf "$work"
mkdir -p "$work"

station 'build' go build -buildvcs=auto -o bin/t5ctl ./cmd/t5ctl
station 'compute plugin' bin/t5ctl backend install cpu

# From here on nothing outside the work folder is written or read, but the plugin.
export XDG_CACHE_HOME=$PWD/$work/cache XDG_CONFIG_HOME=$PWD/$work/config T5CTL_REGISTRY=$PWD/$work/registry

station 'plant canaries' bin/t5ctl exposure plant "$train" --output "$work/planted.jsonl.gz" \
    --seed 7 --input 'q@@@@' --target '1 1 1 1 1' --class @=lower --class 1=phonemes \
    --repetitions 0,1,4,16 --canaries 4 --references 256
station 'fine-tune' bin/t5ctl finetune "$recipe" --output "$work/run" \
    --set base="$PWD/$base" --set data.train="$PWD/$work/planted.jsonl.gz"
station 'evaluate the base' bin/t5ctl eval run "$recipe" --model "$base" --name base --output "$work/base"
station 'evaluate the tuned model' bin/t5ctl eval run "$recipe" --model "$work/run" --name test --output "$work/run/reports"
station 'exposure' bin/t5ctl exposure run "$work/planted.jsonl.gz" --model "$work/run" --output "$work/run/reports"
station 'gate' bin/t5ctl eval gate --report "$work/run/reports/test.json" --report "$work/run/reports/exposure.json" \
    --baseline "$work/base/base.json" --gates scripts/demo-gates.yaml --output "$work/run/reports/gate.json"
station 'push the base' bin/t5ctl push "$base" g2p-base --report "$work/base/base.json" --license apache-2.0 --language en
# --allow-canaries: the canaries were planted on purpose, and the version stays marked.
station 'push' bin/t5ctl push "$work/run" g2p-stress --license apache-2.0 --language en \
    --allow-canaries --reason 'canaries were planted on purpose, to measure exposure'
station 'promote' bin/t5ctl promote g2p-stress@v1 --to production --expect none --reason 'gates passed'
station 'verify' bin/t5ctl verify g2p-stress@production
station 'pull' bin/t5ctl pull g2p-stress@production --output "$work/pulled"
station 'generate' bin/t5ctl generate --model g2p-stress@production tomato photograph photographer

printf '\n== base and tuned model on %s held-out words\n' "$(awk '/^    "n":/ {print $2 + 0; exit}' "$work/run/reports/test.json")"
printf '%-16s %8s %8s %8s  %s\n' metric base tuned change signature
for metric in word_error_rate bleu chrf rouge1 rouge2 rougeL; do
    before=$(score "$work/base/base.json" "$metric")
    after=$(score "$work/run/reports/test.json" "$metric")
    awk -v m="$metric" -v b="$before" -v a="$after" -v s="$(signature "$work/run/reports/test.json" "$metric")" \
        'BEGIN {printf "%-16s %8.2f %8.2f %+8.2f  %s\n", m, b, a, a - b, s}'
done

printf '\n== time\n'
total=0
for i in "${!names[@]}"; do
    printf '%-26s %7.1f s\n' "${names[i]}" "${seconds[i]}"
    total=$(awk -v a="$total" -v b="${seconds[i]}" 'BEGIN {print a + b}')
done
printf '%-26s %7.1f s\n' all "$total"

wer=$(score "$work/run/reports/test.json" word_error_rate)
gain=$(awk -v a="$(score "$work/run/reports/test.json" bleu)" -v b="$(score "$work/base/base.json" bleu)" 'BEGIN {print a - b}')
printf '\nword error rate %.1f %% (at most %s), BLEU %+.1f points (at least %s)\n' "$wer" "$max_wer" "$gain" "$min_gain"
awk -v w="$wer" -v g="$gain" -v mw="$max_wer" -v mg="$min_gain" 'BEGIN {exit !(w <= mw && g >= mg)}' || {
    echo 'the demo did not reach its marks' >&2
    exit 1
}
