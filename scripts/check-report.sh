#!/usr/bin/env bash
# Opens a page of `t5ctl eval report` in a headless Chromium and checks what a reader would see: the
# tables and plots are there, nothing was loaded from elsewhere and nothing was blocked or failed.
# Skips out loud where there is no Chromium; $CHROMIUM names one.
set -euo pipefail
cd "$(dirname "$0")/.."

browser=${CHROMIUM:-}
for name in chromium chromium-browser google-chrome chrome chromium-headless-shell headless_shell; do
  [ -n "$browser" ] || browser=$(command -v "$name" || true)
done
if [ -z "$browser" ]; then
  echo 'SKIPPED: no Chromium found: make check-tools, or set CHROMIUM to one' >&2
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'the cat sat on the mat\na dog ran in the park\n<b>bold</b> claims\n' >"$work/ref.txt"
printf 'the cat sat on a mat\na dog runs in the park\n<script>document.title="broken"</script>\n' >"$work/hyp.txt"
for name in hyp ref; do
  bin/t5ctl eval score --hypotheses "$work/$name.txt" --references "$work/ref.txt" --metric chrf --metric wer \
    --bootstrap 100 --output "$work/$name" >/dev/null
done
bin/t5ctl eval report "$work/hyp" --baseline "$work/ref" --output "$work/page.html" >/dev/null

"$browser" --headless --no-sandbox --disable-gpu --enable-logging=stderr --virtual-time-budget=2000 \
  --dump-dom "file://$work/page.html" >"$work/dom.html" 2>"$work/log.txt"
fail() { echo "check-report: $1" >&2; exit 1; }
grep -q '<title>Evaluation score</title>' "$work/dom.html" || fail 'the title is not that of the page'
[ "$(grep -o '<svg' "$work/dom.html" | wc -l)" -ge 3 ] || fail 'the plots are missing'
[ "$(grep -o '<tr>' "$work/dom.html" | wc -l)" -ge 3 ] || fail 'the tables are missing'
! grep -q 'CONSOLE' "$work/log.txt" || fail "the browser complained: $(grep -m1 CONSOLE "$work/log.txt")"
echo "check-report: the page is well ($browser)"
