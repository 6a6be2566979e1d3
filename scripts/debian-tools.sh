#!/usr/bin/env bash
# Unpacks programs of Debian's packages, with the libraries that are missing here, into a folder of
# their own: nothing is installed and root is not needed. Says so and does nothing where there is no
# apt or its servers cannot be reached.
#
#     scripts/debian-tools.sh FOLDER PACKAGE PROGRAM
#
# FOLDER/bin/NAME then starts the file PROGRAM of the package.
set -euo pipefail
folder=$1 package=$2 program=$3
name=$(basename "$program")
[ ! -x "$folder/bin/$name" ] || exit 0
skip() { echo "SKIPPED: $package: $1" >&2; rm -rf "$folder"; exit 0; }
command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip 'there is no apt here'

mkdir -p "$folder/packages" "$folder/root" "$folder/bin"
folder=$(cd "$folder" && pwd)
missing=$(apt-get install --simulate --no-install-recommends "$package" 2>/dev/null | awk '/^Inst/ {print $2}')
[ -n "$missing" ] || skip 'apt does not know it, or it is installed'
# shellcheck disable=SC2086 # a list of names
(cd "$folder/packages" && apt-get download $missing >/dev/null 2>&1) || skip 'the packages cannot be had'
for file in "$folder"/packages/*.deb; do
  dpkg -x "$file" "$folder/root"
done
libraries=$(cd "$folder" && find root -name '*.so*' -printf '$here/%h\n' | sort -u | paste -sd:)
cat >"$folder/bin/$name" <<END
#!/bin/sh
here=\$(cd "\$(dirname "\$(readlink -f "\$0")")/.." && pwd) # the folder may have moved
LD_LIBRARY_PATH="$libraries" exec "\$here/root$program" "\$@"
END
chmod +x "$folder/bin/$name"
rm -rf "$folder/packages"
echo "$folder/bin/$name"
