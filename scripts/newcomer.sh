#!/usr/bin/env bash
# What README promises to who has just unpacked a release: its commands, in a bare folder with an empty
# home and no compute plugin, lead to a model that passes its gate, in at most three commands and 300
# seconds on two cores.
#
# ARCHIVE=dist/t5ctl_…_linux_amd64.tar.gz tries that archive; without it, a folder with what an archive
# holds is made of this clone. What is run is read from README.md. PLUGIN=no leaves the plugin out: all is
# then computed in pure Go, and time is told but not judged. Where other programs take more than a quarter of
# the machine meanwhile, only processor time is judged. Writes to a temporary folder alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fail() { echo "newcomer: $*" >&2; exit 1; }
limit=300

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{home,here,t5ctl,tmp}
if [ -n "${ARCHIVE:-}" ]; then
	tar --extract --gzip --file "$ARCHIVE" --directory "$work/t5ctl"
else
	go build -o "$work/t5ctl/t5ctl" ./cmd/t5ctl
	mkdir "$work/t5ctl/models"
	cp -r models/g2p-base "$work/t5ctl/models/"
	cp README.md "$work/t5ctl/"
fi

# block NAME prints the commands of a block of README.md, without their "$ ".
block() {
	sed -n "/<!-- newcomer: $1 -->/,/^\`\`\`$/s/^\\$ //p" "$work/t5ctl/README.md"
}
block install >"$work/install.sh"
block first >"$work/first.sh"
[ -s "$work/install.sh" ] && [ -s "$work/first.sh" ] || fail 'README.md has no commands to try'
count=$(grep -o 't5ctl ' "$work/first.sh" | wc -l)
[ "$count" -le 3 ] || fail "README.md takes $count commands to a first model, not 3"

# Of the surroundings only what fetching needs gets through.
pass=()
for name in PIP_CERT PIP_FIND_LINKS PIP_INDEX_URL SSL_CERT_FILE http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
	[ -z "${!name:-}" ] || pass+=("$name=${!name}")
done
# newcomer FOLDER runs the commands of stdin, each shown and timed, and says in which folder it ended.
newcomer() {
	env -i "${pass[@]}" HOME="$work/home" TMPDIR="$work/tmp" PATH="$work/t5ctl:/usr/local/bin:/usr/bin:/bin" \
		bash -euo pipefail -c '
			cd "$1"
			TIMEFORMAT="   (%0R s, %0U s of processor)"
			while IFS= read -r line <&3; do
				printf "\n\$ %s\n" "$line"
				time eval "$line" </dev/null 2>"$2" || { code=$?; cat "$2" >&2; exit $code; }
			done
			pwd >"$2"' newcomer "$1" "$work/last" 3<&0
}
# spent prints the ticks that the machine was busy, and those that this shell and its children were.
spent() {
	awk 'FNR == 1 && FILENAME == "/proc/stat" {busy = $2 + $3 + $4 + $7 + $8}
		FILENAME != "/proc/stat" {sub(/.*\) /, ""); own = $12 + $13 + $14 + $15}
		END {print busy, own}' /proc/stat "/proc/$$/stat"
}

read -r busy0 own0 < <(spent)
start=$SECONDS
if [ "${PLUGIN:-}" != no ]; then
	newcomer "$work/here" <"$work/install.sh" || fail 'the commands that install do not work'
fi
newcomer "$work/here" <"$work/first.sh" || fail "the commands of README.md ended with exit code $?"
took=$((SECONDS - start))
read -r busy1 own1 < <(spent)
cores=$(nproc)
ticks=$(getconf CLK_TCK)
others=$(((busy1 - busy0 - own1 + own0) * 100 / (took * ticks * cores + 1)))
least=$(((own1 - own0) / ticks / cores)) # seconds that the commands would take with the cores to themselves, at best

# What they led to.
cd "$(cat "$work/last")"
export PATH="$work/t5ctl:$PATH" HOME="$work/home"
if [ "${PLUGIN:-}" != no ]; then
	grep -q '"kind": "cpu"' runs/*/run.json || fail 'the run did not compute on XLA'
fi
wer=$(awk '/"name": "word_error_rate"/ {seen = 1} seen && /"score":/ {gsub(/[^0-9.]/, ""); print; exit}' runs/*/reports/test.json)
awk -v wer="$wer" 'BEGIN {exit !(wer > 0 && wer <= 50)}' || fail "the word error rate is $wer, not at most 50"
said=$(t5ctl --quiet generate --model "$(echo runs/*)" photograph)
grep -qE '[A-Z]+1' <<<"$said" || fail "the model marks no stress in photograph: $said"

printf '\nphotograph: %s\nword error rate %s %%, %s commands, %s s on %s cores, of which others used %s %%\n' "$said" "${wer%%.*}" "$count" "$took" "$cores" "$others"
if [ "${PLUGIN:-}" = no ]; then
	echo 'newcomer: the time is not judged in pure Go'
elif [ "$least" -gt "$limit" ]; then
	fail "its processor time alone is $least s on $cores cores, not $limit"
elif [ "$others" -gt 25 ]; then
	echo "newcomer: others use the machine, only processor time is judged: $least s on $cores cores"
elif [ "$took" -gt "$limit" ]; then
	fail "it took $took s, not $limit"
fi
