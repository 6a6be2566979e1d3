#!/usr/bin/env bash
# Makes the virtual environments that `make interop` uses, outside the clone: one for each group of
# Python programs, at pinned versions. One that is there is left as it is. The first holds torch,
# several gigabytes.
set -euo pipefail
cd "$(dirname "$0")/.."
venvs=${T5CTL_INTEROP_VENVS:-$HOME/.cache/t5ctl-bench}
make_venv() { # make_venv NAME REQUIREMENT…
	local name=$1
	shift
	if [ -e "$venvs/$name/ready" ]; then
		return
	fi
	echo "$venvs/$name: $*"
	python3 -m venv "$venvs/$name"
	"$venvs/$name/bin/pip" install --quiet "$@"
	touch "$venvs/$name/ready"
}
make_venv venv -r bench/requirements.txt datasets==5.0.0
make_venv sign model-signing==1.1.1 pyopenssl==26.4.0
make_venv tensorboard tensorboard==2.21.0
make_venv mlflow mlflow==3.18.0
