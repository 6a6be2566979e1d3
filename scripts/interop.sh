#!/usr/bin/env bash
# What t5ctl writes, checked by programs that others wrote, and theirs read by t5ctl, each with a
# control that must fail: cosign, model_signing, oras, crane, age and huggingface_hub on what is pushed
# and signed; transformers, peft, SentencePiece, datasets, CTranslate2, TensorBoard and MLflow on
# models, adapters, tokenizers, data and records of runs (bench/interop). Needs bin/t5ctl and
# build/tools/distribution (`make interop-tools`); the Python programs lie in the virtual environments
# of scripts/interop-venvs.sh. A program that is not there is told loudly; with
# T5CTL_REQUIRE_INTEROP=1 that is an error.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
t5ctl=${T5CTL:-$root/bin/t5ctl}
home=$HOME
venvs=${T5CTL_INTEROP_VENVS:-$home/.cache/t5ctl-bench}
of() { # of NAME: the Python of a virtual environment, or the machine's
	if [ -x "$venvs/$1/bin/python" ]; then echo "$venvs/$1/bin/python"; else echo python3; fi
}
python=$(of venv) signing=$(of sign)
PATH=$root/build/tools:$PATH
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"
export HOME=$work XDG_DATA_HOME=$work/data XDG_STATE_HOME=$work/state XDG_CACHE_HOME=$work/cache

passed=0 missing=0
ok() { # ok TEXT COMMAND…: must succeed
	local what=$1
	shift
	"$@" >log 2>&1 || { echo "FAILED: $what" >&2; tail -5 log >&2; exit 1; }
	echo "ok      $what"
	passed=$((passed + 1))
}
refused() { # refused TEXT COMMAND…: must fail
	local what=$1
	shift
	if "$@" >log 2>&1; then
		echo "FAILED: $what was accepted" >&2
		exit 1
	fi
	echo "refused $what"
	passed=$((passed + 1))
}
have() { # have NAME COMMAND…: is the program there
	local name=$1
	shift
	if "$@" >/dev/null 2>&1; then
		return 0
	fi
	echo "NOT INSTALLED, NOT CHECKED: $name" >&2
	missing=$((missing + 1))
	return 1
}

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >server.yml <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: "$work/server"}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
END
OTEL_TRACES_EXPORTER=none distribution serve server.yml >server.log 2>&1 &
server=$!
for _ in $(seq 100); do
	"$python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/v2/')" 2>/dev/null && break
	sleep 0.1
done

# A model, evaluated, gated, signed and pushed.
mkdir -p run/model/sub run/reports
echo '{"model_type": "t5"}' >run/model/config.json
echo '{"max_new_tokens": 32}' >run/model/generation_config.json
echo '{}' >run/model/sub/extra.json
head -c 100000 /dev/zero >run/model/model.safetensors
echo '{"schema": 1, "finished": "2026-01-02T03:04:05Z"}' >run/run.json
printf 'a\nb\n' >texts.txt
printf 'version: 1\ngates:\n  - metric: exact_match\n    min: 90\n' >gates.yaml
"$t5ctl" --quiet eval score --hypotheses texts.txt --references texts.txt --metric exact_match --output run/reports >/dev/null
"$t5ctl" --quiet eval gate --report run/reports/score.json --gates gates.yaml --output run/reports/gate.json >/dev/null
"$t5ctl" registry key create ci >/dev/null
"$t5ctl" registry key create eve >/dev/null
export T5CTL_REGISTRY=oci://127.0.0.1:$port/team T5CTL_PLAIN_HTTP=true
ok 't5ctl push' "$t5ctl" push run m --license apache-2.0 --language en --key ci
"$t5ctl" registry show m@v1 --json >show.json
digest=$("$python" -c 'import json; print(json.load(open("show.json"))["digest"])')
image=127.0.0.1:$port/team/m@$digest
ci=$work/data/t5ctl/keys/ci.pub eve=$work/data/t5ctl/keys/eve.pub
ok 't5ctl registry export' "$t5ctl" registry export m@v1 --output exported

if have cosign cosign version; then
	flags=(--insecure-ignore-tlog --allow-http-registry)
	ok 'cosign verify' cosign verify --key "$ci" "${flags[@]}" "$image"
	refused 'cosign verify with another key' cosign verify --key "$eve" "${flags[@]}" "$image"
	for type in slsaprovenance1 https://t5ctl.dev/attestation/gate/v1 https://t5ctl.dev/attestation/evaluation/v1; do
		ok "cosign verify-attestation --type $type" cosign verify-attestation --key "$ci" "${flags[@]}" --type "$type" "$image"
	done
	refused 'cosign verify-attestation of what was never attested' cosign verify-attestation --key "$ci" "${flags[@]}" --type https://t5ctl.dev/attestation/exposure/v1 "$image"
	refused 'cosign verify-attestation with another key' cosign verify-attestation --key "$eve" "${flags[@]}" --type slsaprovenance1 "$image"
fi

tree=exported/model
if have oras oras version; then
	mkdir pulled
	ok 'oras pull' oras pull --plain-http --output pulled "$image"
	ok 'the tree that oras pulls is what t5ctl exports' diff -r pulled exported/model
	echo x >>pulled/config.json
	refused 'a changed tree' diff -r pulled exported/model
	oras discover --plain-http --format json "$image" >referrers.json
	ok 'oras discover shows the signatures' grep -q application/vnd.dev.sigstore.bundle.v0.3+json referrers.json
fi

if have model_signing "$signing" -c 'import model_signing'; then
	signature=$(ls exported/evidence/model.*.sigstore.json)
	verify=("$signing" -m model_signing verify key --signature "$signature" --public_key)
	ok 'model_signing verify' "${verify[@]}" "$ci" $tree
	refused 'model_signing verify with another key' "${verify[@]}" "$eve" $tree
	cp -r $tree changed && printf x >>changed/model.safetensors
	refused 'model_signing verify of a changed file' "${verify[@]}" "$ci" changed
	cp -r $tree more && echo x >more/extra.txt
	refused 'model_signing verify with a file too many' "${verify[@]}" "$ci" more
fi

if have crane crane version; then
	[ "$(crane digest --insecure "127.0.0.1:$port/team/m:v1")" = "$digest" ] || { echo 'FAILED: crane digest' >&2; exit 1; }
	echo 'ok      crane digest'
	ok 'crane manifest' crane manifest --insecure "$image"
	ok 't5ctl promote' "$t5ctl" promote m@v1 --to production --key ci
	ok 't5ctl registry audit' "$t5ctl" registry audit m
	echo x >>run/model/config.json
	ok 't5ctl push of another version' "$t5ctl" push run/model m --license apache-2.0 --language en --key ci
	crane copy --insecure "127.0.0.1:$port/team/m:v2" "127.0.0.1:$port/team/m:production" >/dev/null 2>&1
	refused 'by t5ctl registry audit, a tag that crane moved' "$t5ctl" registry audit m
	ok 't5ctl resolves by the log all the same' bash -c "'$t5ctl' registry show m@production --json | grep -q '\"name\": \"m@v1\"'"
	ok 't5ctl registry repair' "$t5ctl" registry repair m
	ok 't5ctl registry audit after it' "$t5ctl" registry audit m
fi

if have huggingface_hub "$python" -c 'import huggingface_hub'; then
	cat >card.py <<'END'
import sys
from huggingface_hub import ModelCard

card = ModelCard.load(sys.argv[1])
assert card.data.license == "apache-2.0" and card.data.language == ["en"], card.data
assert card.data.eval_results and card.data.eval_results[0].metric_value == 100.0, card.data.eval_results
END
	ok 'huggingface_hub reads the card and its results' "$python" card.py exported/model/README.md
	sed 's/^license: .*/license: mit/' exported/model/README.md >other.md
	refused 'a card with another licence' "$python" card.py other.md
fi

if have age age --version; then
	"$t5ctl" registry key create ops --age | head -n 1 >ops.txt
	age-keygen -o theirs.key 2>/dev/null
	chmod 600 theirs.key
	age-keygen -y theirs.key >theirs.txt
	ok 't5ctl registry bundle create --encrypt' "$t5ctl" registry bundle create m --output m.tar.age --encrypt ops.txt --encrypt theirs.txt
	ok 'age opens what t5ctl encrypted' age --decrypt -i theirs.key -o m.tar m.tar.age
	ok 't5ctl loads what age opened' "$t5ctl" registry bundle load m.tar --registry plain
	age --encrypt -R ops.txt -o again.age m.tar
	ok 't5ctl loads what age encrypted' "$t5ctl" registry bundle load again.age --registry sealed --identity ops
	age-keygen -o other.key 2>/dev/null
	refused 'by age, with another key' age --decrypt -i other.key -o nothing m.tar.age
fi

# Models, adapters, tokenizers, data and records of runs; each script has its own controls.
peer() { # peer TEXT VENV MODULES SCRIPT ARGUMENT…
	local what=$1 run
	run=$(of "$2")
	if have "$what" "$run" -c "import $3"; then
		ok "$what" env HOME="$home" "$run" "$root/bench/interop/$4" "${@:5}"
		sed 's/^/        /' log
	fi
}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # several threads of torch on few cores wait for each other
peer 'transformers and peft, both ways' venv torch,transformers,peft interop.py --t5ctl "$t5ctl" --backend go
peer 'SentencePiece, tokenizers and datasets, both ways' venv sentencepiece,transformers,datasets files.py "$t5ctl"
peer 'CTranslate2' venv ctranslate2,numpy ctranslate2_decode.py "$t5ctl"
peer 'TensorBoard' tensorboard tensorboard tensorboard_events.py
peer 'MLflow' mlflow mlflow mlflow_tracking.py

echo "$passed checks passed, $missing programs missing"
[ "$missing" = 0 ] || [ -z "${T5CTL_REQUIRE_INTEROP:-}" ]
