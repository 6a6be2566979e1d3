#!/usr/bin/env bash
# Unpacks Debian's docker-registry, an older server that the fault tests run against, into the folder
# $1, without installing it. Where apt is not there or reaches nothing, it says so and does nothing.
set -euo pipefail
to=$1
[ ! -e "$to/docker-registry" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$to"
if (cd "$work" && apt-get download docker-registry && dpkg-deb --extract docker-registry_*.deb .) >/dev/null 2>&1; then
	mv "$work/usr/bin/docker-registry" "$to/docker-registry"
else
	echo "SKIPPED: apt gives no docker-registry; the fault tests leave Debian's server out" >&2
fi
