#!/usr/bin/env bash
# Train, evaluate and gate, as CI does it. Exit code 3: a gate did not pass.
# MODEL=REF evaluates that model instead of training one; BASELINE=REF (a report, name@vN or
# name@channel) is what max_drop in gates.yaml is measured against.
set -euo pipefail
cd "$(dirname "$0")/.."

reports=runs/ci/reports
if [ -z "${MODEL:-}" ]; then
  t5ctl backend install cpu
  t5ctl recipe validate recipe.yaml
  t5ctl finetune recipe.yaml --output runs/ci
  MODEL=runs/ci
fi
t5ctl eval run recipe.yaml --model "$MODEL" --output "$reports" --name test --force

# The page is written whether or not the gates pass.
t5ctl eval report "$reports/test.json" --output runs/ci/report.html
t5ctl eval gate --report "$reports" --gates gates.yaml ${BASELINE:+--baseline "$BASELINE"} \
  --junit runs/ci/gate.xml --markdown runs/ci/gate.md --output runs/ci/gate.json
