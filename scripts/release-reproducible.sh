#!/usr/bin/env bash
# Builds the present commit twice as a release does, in two folders, the second time with an empty
# build cache, and compares the digests. Changes that are not committed are left out.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
build() { # build FOLDER: the digest of the binary
	git clone --quiet --no-hardlinks . "$work/$1"
	go -C "$work/$1" build -trimpath -buildvcs=true -ldflags '-s -w -X github.com/t5ctl/t5ctl/cmd/internal/cli.releaseVersion=v0.0.0' -o "$work/$1/t5ctl" ./cmd/t5ctl
	sha256sum <"$work/$1/t5ctl" | cut -d ' ' -f 1
}
first=$(build one)
second=$(GOCACHE=$work/cache build another-folder)
echo "reproducible: $first with the build cache, $second without"
[ "$first" = "$second" ] || { echo 'reproducible: two builds of one commit differ' >&2; exit 1; }
