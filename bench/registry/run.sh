#!/usr/bin/env bash
# Times the registry against what it is made of: a local push against cp and sha256sum, push and
# pull over loopback against the oras command, alternating. Needs bin/t5ctl and the programs of
# `make interop-tools`. SIZE is the size of the one weight file in MB (200), ROUNDS how often (5).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
t5ctl=${T5CTL:-$root/bin/t5ctl}
PATH=$root/build/tools:$PATH
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"
export HOME=$work XDG_DATA_HOME=$work/data XDG_STATE_HOME=$work/state
mkdir model
echo '{"model_type": "t5"}' >model/config.json
head -c $((${SIZE:-200} * 1000000)) /dev/urandom >model/model.safetensors
port=${PORT:-5987}
cat >server.yml <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: "$work/server"}}
http: {addr: "127.0.0.1:$port"}
END
OTEL_TRACES_EXPORTER=none distribution serve server.yml >server.log 2>&1 &
server=$!
sleep 2

timed() { # timed NAME COMMAND…: one line: seconds, seconds of processor time, and peak memory
	local name=$1
	shift
	/usr/bin/time -o time.txt -f '%e %U %S %M' "$@" >/dev/null 2>log || { cat log >&2; exit 1; }
	read -r seconds user system memory <time.txt
	awk -v name="$name" -v s="$seconds" -v cpu="$(echo "$user $system" | awk '{print $1 + $2}')" -v kb="$memory" \
		'BEGIN {printf "%-22s %6.2f s %6.2f s of processor %8d KB\n", name, s, cpu, kb}'
}
remote=oci://127.0.0.1:$port
for round in $(seq "${ROUNDS:-5}"); do
	timed 'cp + sha256sum' bash -c "cp -r model copy$round && sync copy$round/model.safetensors && sha256sum model/model.safetensors"
	timed 't5ctl push, folder' "$t5ctl" push model m --license mit --language en --registry "folder$round"
	timed 'oras push' bash -c "cd model && oras push --plain-http 127.0.0.1:$port/oras$round:v1 config.json model.safetensors"
	timed 't5ctl push, server' "$t5ctl" push model m --license mit --language en --plain-http --registry "$remote/t5ctl$round"
	timed 'oras pull' oras pull --plain-http --output "oras$round" "127.0.0.1:$port/oras$round:v1"
	timed 't5ctl pull, server' "$t5ctl" pull m@v1 --output "t5ctl$round" --plain-http --registry "$remote/t5ctl$round"
	cmp "t5ctl$round/model.safetensors" model/model.safetensors
	rm -rf "copy$round" "folder$round" "oras$round" "t5ctl$round" server/docker/registry/v2/blobs/sha256/* server/docker/registry/v2/repositories/*
done
