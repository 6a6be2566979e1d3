#!/usr/bin/env bash
# A model's life after its promotion, on loopback: two versions are trained, one serves while the other answers in
# its shadow; the second becomes the canary and is judged; a regression follows it, fails, and is rolled back.
#
# Writes to build/operations and, for the compute plugin, to t5ctl's plugin folder. The verdicts and the dashboards'
# queries come from a real Prometheus (`make prometheus` takes it out of Debian's package); without one that is said,
# and the verdicts come from scraped files. Fails if a station does not end as it must. Needs curl and jq.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$PWD/build/operations
steps=${STEPS:-40}
requests=${REQUESTS:-120}
budget=${BUDGET:-0.15}
sample=${SAMPLE:-60} # rows of an evaluation
jobs=()

finish() {
    local pid
    for pid in "${jobs[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
}
trap finish EXIT

# station NAME CODE COMMAND... shows a command and runs it; it must end with that exit code.
station() {
    local name=$1 want=$2 got=0
    shift 2
    printf '\n== %s\n$ %s\n' "$name" "${*//$work\//}"
    "$@" 2>&1 | sed "s|$work/||g" || got=${PIPESTATUS[0]}
    [ "$got" = "$want" ] || { echo "exit code $got, expected $want" >&2; exit 1; }
    [ "$want" = 0 ] || echo "(exit code $want)"
}

# ready ADDRESS PATH waits until a server answers.
ready() {
    for _ in $(seq 300); do
        curl -sf -o /dev/null "http://$1$2" && return
        sleep 0.2
    done
    echo "no answer from $1$2 within a minute" >&2
    exit 1
}

# traffic ADDRESS N sends N words, eight at a time.
traffic() {
    head -"$2" "$work/bodies" | xargs -P 8 -d '\n' -I{} curl -s -o /dev/null -H 'Content-Type: application/json' -d {} "http://$1/v1/generate"
}

# answering ADDRESS says which version answers there.
answering() { curl -s -H 'Content-Type: application/json' -d '{"input": "word"}' "http://$1/v1/generate" | jq -r .model; }

# follows ADDRESS VERSION waits until the server answers with a version that its channel has moved to.
follows() {
    for _ in $(seq 150); do
        [ "$(answering "$1")" = "$2" ] && return
        sleep 0.2
    done
    echo "$1 does not answer with $2" >&2
    exit 1
}

# counter ADDRESS PATTERN shows what /metrics says.
counter() { curl -s "http://$1/metrics" | grep -E "$2" | sort; }

port=$((20000 + RANDOM % 20000))
production=127.0.0.1:$port canary=127.0.0.1:$((port + 1)) prometheus=127.0.0.1:$((port + 2))

rm -rf "$work"
mkdir -p "$work"
go build -buildvcs=auto -o bin/t5ctl ./cmd/t5ctl
bin/t5ctl backend install cpu >/dev/null 2>&1 || echo 'no XLA plugin: computing in Go, which takes longer' >&2
PATH=$PWD/bin:$PATH
export XDG_CACHE_HOME=$work/cache XDG_CONFIG_HOME=$work/config XDG_STATE_HOME=$work/state T5CTL_REGISTRY=$work/registry
gzip -dc recipes/data/cmudict-stress/test.jsonl.gz | jq -c '{input, settings: {max_new_tokens: 40}}' | awk 'NR % 7 == 0' >"$work/bodies"
cat >"$work/gates.yaml" <<'YAML'
version: 1
gates:
  - {metric: bleu, min: 0}
YAML

# release VERSION RUN WHY evaluates, gates and pushes a run.
release() {
    station "evaluate $1" 0 t5ctl --quiet eval run cmudict-stress --model "$work/$2" --limit "$sample" --name test --output "$work/$2/reports" --price-per-hour 0.40
    t5ctl --quiet eval gate --report "$work/$2/reports/test.json" --gates "$work/gates.yaml" --output "$work/$2/reports/gate.json" >/dev/null
    station "push $1" 0 t5ctl push "$work/$2" g2p --license apache-2.0 --language en --reason "$3"
}

full=(--set train.method=full --set train.lora=null --set train.tokens_per_batch=2048 --set train.optimizer.learning_rate=0.001 --set train.schedule.warmup=5)
station 'train the first version' 0 t5ctl --quiet finetune cmudict-stress --output "$work/one" --set base="$PWD/models/g2p-base" "${full[@]}" --set train.steps="$steps" --price-per-hour 0.40
release v1 one 'a first version'
station 'promote it' 0 t5ctl promote g2p@v1 --to production --expect none --reason 'gates passed'
station 'train the second from what serves' 0 t5ctl --quiet finetune cmudict-stress --warm-from g2p@production --output "$work/two" "${full[@]}" --set train.steps="$steps" --set train.seed=2 --price-per-hour 0.40
release v2 two 'trained on'

t5ctl --quiet emit prometheus g2p@production --output "$work/rules" >/dev/null
t5ctl --quiet emit grafana g2p@production --output "$work/boards" >/dev/null
# A few hundred requests: a wider budget than a service's. How fast this machine is, is no part of the story.
sed "/name: latency/,+3d; s/budget: 0.*/budget: $budget/" <(t5ctl canary judge --print-objectives) >"$work/objectives.yaml"

printf '\n== serve the first, shadow the second\n$ t5ctl serve --model g2p@production --shadow g2p@v2\n'
t5ctl serve --model g2p@production --shadow g2p@v2 --listen "$production" --follow 500ms --cache 0 --request-timeout 2m 2>"$work/production.log" &
jobs+=($!)
ready "$production" /readyz

judge=(--objectives "$work/objectives.yaml")
if [ -x build/tools/prometheus ]; then
    cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 1s, evaluation_interval: 5s}
rule_files: [rules/rules.yaml]
scrape_configs:
  - {job_name: t5ctl, static_configs: [{targets: ["$production", "$canary"]}]}
YAML
    build/tools/prometheus --config.file "$work/prometheus.yml" --storage.tsdb.path "$work/tsdb" --web.listen-address "$prometheus" 2>"$work/prometheus.log" &
    jobs+=($!)
    ready "$prometheus" /-/ready
    server=yes
else
    echo 'SKIPPED: no Prometheus in build/tools (make prometheus): verdicts come from scraped files, dashboards are not asked' >&2
    server=
fi
traffic "$production" "$requests"
for _ in $(seq 100); do # the shadow is behind
    [ "$(counter "$production" '^t5ctl_serve_shadow_requests_total' | awk '{n += $2} END {print n + 0}')" -ge "$requests" ] && break
    sleep 0.2
done
counter "$production" '^t5ctl_serve_(requests|shadow_requests)_total'

# verdict CODE judges the canary by what both servers counted since it began.
verdict() {
    if [ -n "$server" ]; then
        sleep 3 # two scrapes
        station "$2" "$1" t5ctl canary judge --prometheus "http://$prometheus" --baseline g2p@production --canary g2p@canary --step 1s "${judge[@]}" --markdown "$work/verdict.md"
    else
        curl -s "http://$production/metrics" >"$work/baseline.prom"
        curl -s "http://$canary/metrics" >"$work/canary.prom"
        station "$2" "$1" t5ctl canary judge --baseline "$work/baseline.prom{version=\"v1\"}" --canary "$work/canary.prom{version=\"$3\"}" "${judge[@]}" --markdown "$work/verdict.md"
    fi
}

station 'promote the second to canary' 0 t5ctl promote g2p@v2 --to canary --share 50 --reason 'its shadow kept up'
t5ctl serve --model g2p@canary --listen "$canary" --follow 500ms --cache 0 --request-timeout 2m 2>"$work/canary.log" &
jobs+=($!)
ready "$canary" /readyz
sleep 2 # a scrape of both, from which counting begins
traffic "$production" "$requests" &
both=$!
traffic "$canary" "$requests"
wait "$both"
verdict 0 'judge it' v2

station 'inject a regression: a learning rate 200 times too high' 0 t5ctl --quiet finetune cmudict-stress --warm-from g2p@canary --output "$work/three" "${full[@]}" \
    --set train.steps=4 --set train.optimizer.learning_rate=0.2 --set train.clip_norm=1000
release v3 three 'more training' # its gate asks for too little
station 'promote it to canary' 0 t5ctl promote g2p@v3 --to canary --share 50 --reason 'gates passed'
follows "$canary" g2p@v3
traffic "$production" "$requests" &
both=$!
traffic "$canary" "$requests"
wait "$both"
verdict 3 'judge it' v3
station 'roll back' 0 t5ctl rollback g2p --channel canary --reason 'the canary failed'
follows "$canary" g2p@v2
printf '\n== who answers now\n'
answering "$canary"
station 'history' 0 t5ctl history g2p --channel canary

if [ -n "$server" ]; then
    printf '\n== the dashboards, asked of Prometheus\n'
    for board in executive on-call debug; do
        asked=0 answered=0
        while IFS= read -r query; do
            query=${query//'$model'/g2p} query=${query//'$version'/.*} query=${query//'$__rate_interval'/1m} query=${query//'$__range'/10m}
            reply=$(curl -s --data-urlencode "query=$query" "http://$prometheus/api/v1/query")
            [ "$(jq -r .status <<<"$reply")" = success ] || { echo "$board: $query: $reply" >&2; exit 1; }
            asked=$((asked + 1))
            [ "$(jq '.data.result | length' <<<"$reply")" = 0 ] || answered=$((answered + 1))
        done < <(jq -r '.panels[].targets[]?.expr' "$work/boards/$board.json")
        printf '%-10s %2d queries, %2d with data\n' "$board" "$asked" "$answered"
    done
    printf 'rules      %s\n' "$(curl -s "http://$prometheus/api/v1/rules" | jq -r '[.data.groups[].rules[].health] | group_by(.) | map("\(length) \(.[0])") | join(", ")')"
    curl -s "http://$prometheus/api/v1/rules" | jq -e '[.data.groups[].rules[].health] | all(. == "ok")' >/dev/null
fi
