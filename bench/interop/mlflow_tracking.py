"""Does a real MLflow server understand what t5ctl tells it?

    make build
    make interop-venvs
    ~/.cache/t5ctl-bench/mlflow/bin/python bench/interop/mlflow_tracking.py

A server on loopback with its store in a temporary folder. A small run is killed without warning, resumed, and read back
by MLflow's own client: one run in the experiment of the recipe's name, finished, with start and end; every metric of the
log, value for value; the settings as parameters. Then a run that is interrupted must be KILLED, one that fails FAILED.
Last, the server is taken away while a run goes on: the run must end as if nothing had happened, with a warning, and
within seconds; and so must a run whose server never was there. Exit 1 when anything differs.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import mlflow
from mlflow.tracking import MlflowClient

import tiny

STEPS = 300
failures = []


def check(what, ok, told=""):
    print(("ok    " if ok else "FAIL  ") + what + (f"  {told}" if told and not ok else ""))
    if not ok:
        failures.append(what)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def serve(folder, port):
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.time() + 300
    while time.time() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return server
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the server does not answer")


def stop(server):
    os.killpg(server.pid, signal.SIGKILL)  # the server and its workers, all started here
    server.wait(timeout=30)


def only_run(client, name):
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id])
    check(f"one run in experiment {name}", len(runs) == 1, len(runs))
    return runs[0]


def whole(client, folder, said):
    run = only_run(client, "tiny")
    check("it is finished, with start and end", run.info.status == "FINISHED" and run.info.start_time < run.info.end_time)
    check("it has the run folder's name", run.info.run_name == "run", run.info.run_name)
    check("its settings are there", run.data.params.get("train.steps") == str(STEPS) and len(run.data.params) > 40, len(run.data.params))
    check("it names recipe and data", "t5ctl.fingerprint" in run.data.tags and "t5ctl.data.train" in run.data.tags)
    check("the run folder keeps its id", f'"run_id": "{run.info.run_id}"' in Path(folder, "run", "mlflow.json").read_text())
    check("nothing was warned of", "mlflow" not in said, said)
    # What the killed process had told past its checkpoint stays: a server takes nothing back. The last value of a step counts.
    for name, want in sorted(tiny.lasting(folder).items()):
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda m: m.timestamp)
        got = {m.step: m.value for m in history}
        check(f"{name}: {len(want)} steps", got == want, [s for s in want if got.get(s) != want[s]][:5])


def statuses(client, uri):
    with tempfile.TemporaryDirectory() as folder:
        tiny.project(folder, 100_000)
        flags = ("--mlflow", uri, "--set", "tracking.mlflow.experiment=stopped")
        process = tiny.train(folder, *flags)
        while process.poll() is None and not Path(folder, "run", "mlflow.json").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        tiny.finish(process, 130)
        check("an interrupted run is KILLED", only_run(client, "stopped").info.status == "KILLED")
    with tempfile.TemporaryDirectory() as folder:
        tiny.project(folder, 200)
        tiny.finish(tiny.train(folder, "--mlflow", uri, "--set", "tracking.mlflow.experiment=broken",
                               "--set", "train.optimizer.learning_rate=1e30", "--set", "train.clip_norm=0"), 1)
        check("a run that fails is FAILED", only_run(client, "broken").info.status == "FAILED")


def without_server(server, uri):
    with tempfile.TemporaryDirectory() as folder:
        tiny.project(folder, STEPS)
        process = tiny.train(folder, "--mlflow", uri, "--set", "tracking.mlflow.experiment=left")
        while process.poll() is None and not Path(folder, "run", "mlflow.json").exists():
            time.sleep(0.05)
        stop(server)
        began = time.time()
        said = tiny.finish(process)
        check(f"the run ends well without its server, after {time.time() - began:.0f} s", "did not reach" in said, said)
    with tempfile.TemporaryDirectory() as folder:
        tiny.project(folder, STEPS)
        said = tiny.finish(tiny.train(folder, "--mlflow", uri))
        check("and where there never was one", "did not reach" in said and Path(folder, "run", "model").is_dir(), said)


def main():
    print("mlflow", mlflow.__version__)
    with tempfile.TemporaryDirectory() as store, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        uri, server = f"http://127.0.0.1:{port}", serve(store, port)
        try:
            client = MlflowClient(uri)
            tiny.project(folder, STEPS)
            tiny.stop_at(tiny.train(folder, "--mlflow", uri), folder, 50)
            whole(client, folder, tiny.finish(tiny.train(folder, "--mlflow", uri, "--resume")))
            statuses(client, uri)
            without_server(server, uri)
        finally:
            if server.poll() is None:
                stop(server)
    print("failed: " + ", ".join(failures) if failures else "all hold")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
