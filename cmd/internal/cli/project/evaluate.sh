#!/usr/bin/env bash
# Train, evaluate and gate, as CI does it. Exit code 3: a gate did not pass.
set -euo pipefail
cd "$(dirname "$0")/.."

t5ctl backend install cpu
t5ctl recipe validate recipe.yaml
t5ctl finetune recipe.yaml --output runs/ci
t5ctl eval run recipe.yaml --model runs/ci --output runs/ci/reports
t5ctl eval gate --report runs/ci/reports --gates gates.yaml --junit runs/ci/gate.xml
