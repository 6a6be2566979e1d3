#!/usr/bin/env python3
"""Writes internal/plugin/pins.json: the wheels that `t5ctl backend install` may use.

Each wheel is pinned by version, file name, size and SHA-256 as the package index states them.
Run it after changing a version below, then review the difference like code:

    scripts/pin-plugins.py INDEX_URL > internal/plugin/pins.json

INDEX_URL is a simple index that answers in JSON (PEP 691). CI does not run this script.
"""
import json
import sys
import urllib.request

JAX = "0.11.2"

# The NVIDIA libraries are one toolkit release each, the oldest that the plugin accepts: a newer
# driver runs them, an older driver would not run newer ones.
CUDA13 = {
    "nvidia-cublas": "13.1.0.3",
    "nvidia-cuda-cupti": "13.0.85",
    "nvidia-cuda-nvcc": "13.0.88",
    "nvidia-cuda-nvrtc": "13.0.88",
    "nvidia-cuda-runtime": "13.0.96",
    "nvidia-cudnn-cu13": "9.15.1.9",
    "nvidia-cufft": "12.0.0.61",
    "nvidia-cusolver": "12.0.4.66",
    "nvidia-cusparse": "12.6.3.3",
    "nvidia-nccl-cu13": "2.28.9",
    "nvidia-nvjitlink": "13.0.88",
    "nvidia-nvshmem-cu13": "3.4.5",
    "nvidia-nvvm": "13.0.88",
}
CUDA12 = {
    "nvidia-cublas-cu12": "12.9.1.4",
    "nvidia-cuda-cupti-cu12": "12.9.79",
    "nvidia-cuda-nvcc-cu12": "12.9.86",
    "nvidia-cuda-nvrtc-cu12": "12.9.86",
    "nvidia-cuda-runtime-cu12": "12.9.79",
    "nvidia-cudnn-cu12": "9.15.1.9",
    "nvidia-cufft-cu12": "11.4.1.4",
    "nvidia-cusolver-cu12": "11.7.5.82",
    "nvidia-cusparse-cu12": "12.5.10.65",
    "nvidia-nccl-cu12": "2.28.9",
    "nvidia-nvjitlink-cu12": "12.9.86",
    "nvidia-nvshmem-cu12": "3.4.5",
}


def wheel(index, name, version, extract):
    """One wheel for linux x86_64 as the index describes it."""
    request = urllib.request.Request(
        f"{index.rstrip('/')}/{name}/",
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},
    )
    with urllib.request.urlopen(request) as answer:
        files = json.load(answer)["files"]
    prefix = f"{name.replace('-', '_')}-{version}-"
    found = [f for f in files if f["filename"].startswith(prefix) and f["filename"].endswith("x86_64.whl")]
    if len(found) != 1:
        sys.exit(f"{name} {version}: {len(found)} wheels for x86_64: {[f['filename'] for f in found]}")
    return {
        "name": name,
        "version": version,
        "file": found[0]["filename"],
        "sha256": "sha256:" + found[0]["hashes"]["sha256"],
        "size": found[0]["size"],
        "extract": extract,
    }


def cuda(index, kind, libraries, root):
    """A CUDA plugin with the libraries that it opens. It looks for them in ../nvidia beside its folder."""
    member = f"jax_plugins/xla_{kind}/xla_cuda_plugin.so"
    library = "lib/pjrt_c_api_cuda_plugin.so"
    wheels = [wheel(index, f"jax-{kind}-pjrt", JAX, {member: library})]
    wheels += [wheel(index, n, v, {"nvidia/": "nvidia/"}) for n, v in libraries.items()]
    return {
        "kind": kind, "version": JAX, "os": "linux", "arch": "amd64", "library": library,
        "links": {"nvidia/bin": f"{root}/bin", "nvidia/nvvm": f"{root}/nvvm"},
        "wheels": wheels,
    }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    index = sys.argv[1]
    library = "pjrt_c_api_cpu_plugin.so"
    cpu = {
        "kind": "cpu", "version": JAX, "os": "linux", "arch": "amd64", "library": library,
        "wheels": [wheel(index, "lammps-jax-pjrt-cpu", JAX, {f"lammps_jax_pjrt_cpu/{library}": library})],
    }
    table = {"version": 1, "bundles": [cpu, cuda(index, "cuda12", CUDA12, "cuda_nvcc"), cuda(index, "cuda13", CUDA13, "cu13")]}
    json.dump(table, sys.stdout, indent=2)
    print()


main()
