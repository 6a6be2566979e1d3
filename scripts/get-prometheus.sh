#!/bin/bash
# get-prometheus.sh DIR: puts prometheus and promtool of Debian's package into DIR, without installing it. Where
# apt cannot give the package, that is said, and nothing fails: checks that need the tools skip out loud.
set -euo pipefail
into=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt downloads as another user
if ! command -v apt-get >/dev/null || ! (cd "$work" && apt-get download -q prometheus) >"$work/log" 2>&1; then
	echo 'SKIPPED: no prometheus: apt-get cannot download it; checks that need promtool skip' >&2
	exit 0
fi
dpkg-deb -x "$work"/prometheus_*.deb "$work/files"
mkdir -p "$into"
install -m 755 "$work/files/usr/bin/prometheus" "$work/files/usr/bin/promtool" "$into"
"$into/promtool" --version 2>&1 | head -1
