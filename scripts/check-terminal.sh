#!/usr/bin/env bash
# Runs t5ctl in a real terminal (tmux) of 80 and of 200 columns and looks at its screen: nothing is wider than
# the terminal, tables use the width there is, progress leaves nothing behind, NO_COLOR leaves no color, and what is
# piped is plain. Skips out loud where there is no tmux; $TMUX_PROGRAM names one.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "check-terminal: $*" >&2; exit 1; }
tmux=${TMUX_PROGRAM:-$(command -v tmux || true)}
if [ -z "$tmux" ]; then
	echo 'SKIPPED: no tmux found: make check-tools, or set TMUX_PROGRAM to one' >&2
	exit 0
fi

work=$(mktemp -d)
server=none count=0
end() { "$tmux" -L "$server" kill-server 2>/dev/null || true; rm -rf "$work"; }
trap end EXIT
mkdir -p "$work"/{home,bin,tmp}
ln -s "$PWD/bin/t5ctl" "$work/bin/t5ctl"
clean=(env -u TMUX -u NO_COLOR -u T5CTL_REGISTRY HOME="$work/home" XDG_DATA_HOME="$work/home" XDG_STATE_HOME="$work/home" XDG_CACHE_HOME="$work/home"
	PATH="$work/bin:$PATH" T5CTL_BACKEND=go T5CTL_MODELS="$PWD/models" LC_ALL=C.UTF-8)
cd "$work"
"${clean[@]}" t5ctl --quiet init project </dev/null >/dev/null
cd project
"${clean[@]}" t5ctl --quiet push models/g2p-base spelling-to-sound >/dev/null

# screen WIDTH NAME COMMAND runs a command in a terminal and keeps its screen: NAME.text with lines joined that the
# terminal had to wrap, NAME.colors with the escape codes.
screen() {
	local width=$1 name=$work/$2.$1 command=$3
	rm -f "$work/done"
	count=$((count + 1)) server=t5ctl-check-$$-$count # one that ends would take a new session with it
	"${clean[@]}" "$tmux" -L "$server" -f /dev/null new-session -d -x "$width" -y 400 "$command; touch $work/done; sleep 60"
	for _ in $(seq 600); do
		[ ! -e "$work/done" ] || break
		sleep 0.1
	done
	[ -e "$work/done" ] || fail "after a minute this still runs: $command"
	"$tmux" -L "$server" capture-pane -p -J | sed 's/ *$//' | awk 'NF {last = NR} {all[NR] = $0} END {for (i = 1; i <= last; i++) print all[i]}' >"$name.text"
	"$tmux" -L "$server" capture-pane -p -e >"$name.colors"
	"$tmux" -L "$server" kill-server
	server=none
	[ -s "$name.text" ] || fail "nothing on the screen after: $command"
}
# wide FILE is the width of its widest line, in columns; an example in a help page stays in one line, to be copied.
wide() { grep -v '^  t5ctl' "$1" | wc -L; }
export LC_ALL=C.UTF-8

commands=(
	'help|t5ctl --help'
	'flags|t5ctl generate --help'
	'topic|t5ctl help exit-codes'
	'presets|t5ctl recipe list'
	'doctor|t5ctl doctor --recipe recipe.yaml'
	'plan|t5ctl plan recipe.yaml --quick --alternatives --price-per-hour 1'
	'measured|t5ctl plan recipe.yaml --measure 1 --set train.tokens_per_batch=256'
	'registry|t5ctl registry list'
	'inspect|t5ctl data inspect data/cmudict-stress/test.jsonl.gz --model models/g2p-base'
	'score|t5ctl eval score --hypotheses gates.yaml --references gates.yaml --metric bleu --metric chrf --metric rougeL'
	'wrong|t5ctl eval score --hypotheses gates.yaml --references gates.yaml --metric bleau'
)
for width in 80 200; do
	for entry in "${commands[@]}"; do
		name=${entry%%|*}
		screen "$width" "$name" "${entry#*|}"
		most=$(wide "$work/$name.$width.text")
		[ "$name" = wrong ] || [ "$most" -le "$width" ] ||
			fail "${entry#*|}: $most columns in a terminal of $width: $(grep -E ".{$((width + 1))}" "$work/$name.$width.text" | head -n 1)"
	done
done

# A row that does not fit is wrapped, where there is room it is one line; progress has left nothing.
one='(looked|HF_HUB_OFFLINE).*hub is asked where its cache lacks them'
! grep -qE "$one" "$work/doctor.80.text" || fail 'a row of doctor fits into 80 columns by chance: look for a longer one'
grep -qE "$one" "$work/doctor.200.text" || fail 'doctor does not use 200 columns'
grep -q '^step ' "$work/measured.80.text" || fail 'plan did not measure'
! grep -q 'measuring' "$work/measured.80.text" || fail "progress is left on the screen: $(grep measuring "$work/measured.80.text")"
grep -q 'did you mean bleu?' "$work/wrong.80.text" || fail 'an error does not say what was meant'

# Colors are for terminals, and only where they are wanted; what they say the words say too.
escape=$(printf '\033')
grep -q "$escape\[" "$work/presets.80.colors" || fail 'a heading on a terminal is not bold'
screen 80 nocolor 'NO_COLOR=1 t5ctl recipe list; NO_COLOR=1 t5ctl doctor --backend cpu'
! grep -qE "$escape\[[0-9;]*(3[0-7]|9[0-7]|38)[0-9;]*m" "$work/nocolor.80.colors" || fail 'there is color in spite of NO_COLOR'
screen 80 bad 't5ctl doctor --backend cpu'
grep -qE "$escape\[[0-9;]*3[0-7][0-9;]*m" "$work/bad.80.colors" || fail 'on a terminal a bad finding has no color'
grep -q 'bad' "$work/nocolor.80.text" || fail 'without color a bad finding is not called so'

# Piped from a terminal: plain, one row a line, the same as without one.
screen 80 piped 't5ctl doctor --recipe recipe.yaml >piped.txt 2>/dev/null; t5ctl recipe list >list.txt 2>/dev/null; echo piped'
! grep -q "$escape" piped.txt list.txt || fail 'what is piped has escape codes'
grep -qE "$one" piped.txt || fail 'what is piped is wrapped'
"${clean[@]}" t5ctl recipe list </dev/null 2>/dev/null | cmp - list.txt || fail 'piped from a terminal it says something else than without one'
echo "check-terminal: ${#commands[@]} screens of 80 and 200 columns are well ($tmux)"
