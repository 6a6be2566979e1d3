#!/usr/bin/env bash
# What ways of training remember: canaries are planted among words and their pronunciations, and the
# shipped base is trained on all of it, fully and briefly, fully, by LoRA, and by LoRA with differential
# privacy. Then exposure and membership are measured on each model.
#
#     scripts/exposure_study.sh [FOLDER]      # build/exposure-study; a run that is there is not done again
#
# Writes reports, plots (NAME-dose.png, NAME-roc.png) and summary.md to FOLDER, and fails if repetitions
# and the mean exposure after brief training do not rise together (rank correlation below 0.9), if a control
# is void, or if LoRA remembers more than full training, or private training more than LoRA, by over half a
# bit. About 15 minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=${1:-build/exposure-study}
t5ctl=${T5CTL:-bin/t5ctl}
root=$PWD
data=recipes/data/cmudict-stress/train.jsonl.gz
mkdir -p "$work"

# Every 32nd word is a member, and every 32nd after another start is not.
gzip -dc "$data" | awk 'NR % 32 == 1' >"$work/members.jsonl"
gzip -dc "$data" | awk 'NR % 32 == 17' >"$work/others.jsonl"
if [ ! -f "$work/planted.jsonl.canaries.json" ]; then
  "$t5ctl" exposure plant "$work/members.jsonl" --output "$work/planted.jsonl" --seed 7 --canaries 6 --references 1000 \
    --input 'q@@@@' --class @=lower --target '1 1 1 1 1' --class 1=phonemes --tokenizer models/g2p-base
fi

# recipe NAME STEPS LINES... writes a recipe whose section on training ends in LINES.
recipe() {
  local name=$1 steps=$2
  shift 2
  cat >"$work/$name.yaml" <<END
version: 1
name: $name
base: $root/models/g2p-base
data:
  train: planted.jsonl
  max_input: 32
  max_target: 40
  max_buckets: 1
train:
  steps: $steps
  batch: 32
  dropout: 0
  seed: 1
  schedule: {name: constant, warmup: 10}
$(printf '  %s\n' "$@")
generation: {max_new_tokens: 40}
END
}
lora='lora: {rank: 16, alpha: 32, targets: [q, k, v, o, wi_0, wi_1, wo, lm_head]}'
recipe brief 120 'method: full' 'optimizer: {name: adamw, learning_rate: 0.0002, weight_decay: 0}'
recipe full 320 'method: full' 'optimizer: {name: adamw, learning_rate: 0.001, weight_decay: 0}'
recipe lora 320 'method: lora' "$lora" 'optimizer: {name: adamw, learning_rate: 0.003, weight_decay: 0}'
recipe private 320 'method: lora' "$lora" 'optimizer: {name: adamw, learning_rate: 0.003, weight_decay: 0}' \
  'dp: {noise: 0.8, clip: 0.1, delta: 0.0005, rows: 8}'

for name in brief full lora private; do
  if [ ! -f "$work/runs/$name/reports/membership.json" ]; then
    rm -rf "$work/runs/$name/reports"
    if [ ! -d "$work/runs/$name/adapter" ] && [ ! -d "$work/runs/$name/model" ]; then
      "$t5ctl" finetune "$work/$name.yaml" --output "$work/runs/$name"
    fi
    "$t5ctl" exposure run "$work/planted.jsonl" --model "$work/runs/$name" --output "$work/runs/$name/reports" \
      --plot "$work/$name-dose.png"
    "$t5ctl" exposure membership --model "$work/runs/$name" --reference models/g2p-base --members "$work/members.jsonl" \
      --nonmembers "$work/others.jsonl" --output "$work/runs/$name/reports" --plot "$work/$name-roc.png"
  fi
done
python3 scripts/exposure_summary.py "$work" | tee "$work/summary.md"
