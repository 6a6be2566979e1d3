"""Makes the fixtures of this folder with the reference library.

    pip install safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.6.0
    python make_fixtures.py

reference.safetensors   one tensor of every type that NumPy (with ml_dtypes) can express
rounding.json           float32 bit patterns with their bfloat16 and float16 bit patterns
"""
import json
import pathlib

import ml_dtypes
import numpy as np
from safetensors.numpy import save

HERE = pathlib.Path(__file__).parent


def reference():
    ramp = np.arange(6).reshape(2, 3)
    tensors = {
        "decoder.weight": (ramp * 0.5 - 1).astype(np.float32),
        "encoder.weight": (ramp - 2.5).astype(np.float64),
        "half": (ramp * 0.1).astype(np.float16),
        "brain": (ramp * 0.1).astype(ml_dtypes.bfloat16),
        "i64": (ramp - 3).astype(np.int64),
        "i32": (ramp - 3).astype(np.int32),
        "i16": (ramp - 3).astype(np.int16),
        "i8": (ramp - 3).astype(np.int8),
        "u8": ramp.astype(np.uint8),
        "u16": ramp.astype(np.uint16),
        "u32": ramp.astype(np.uint32),
        "bool": ramp % 2 == 0,
        "scalar": np.array(7.25, dtype=np.float32),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "name with \"quotes\", <b> & ümläute": np.ones(1, dtype=np.uint8),
    }
    (HERE / "reference.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))


def rounding():
    rng = np.random.default_rng(20240611)
    bits = np.concatenate([
        rng.integers(0, 2**32, 600, dtype=np.uint32),           # anything, NaNs included
        rng.normal(0, 1, 400).astype(np.float32).view(np.uint32),
        (rng.normal(0, 1, 200) * 2.0**-15).astype(np.float32).view(np.uint32),   # half's edge of normal
        (rng.normal(0, 1, 200) * 2.0**-23).astype(np.float32).view(np.uint32),   # half's subnormals
        np.array([0, 0x80000000, 0x3F808000, 0x3F818000, 0x3F801000, 0x3F803000, 0x477FEFFF, 0x477FF000,
                  0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x33000000, 0x33000001, 0x33800000,
                  0x387FC000, 0x387FE000, 0x38800000, 1], dtype=np.uint32),
    ])
    values = bits.view(np.float32)
    with np.errstate(all="ignore"):
        brain = values.astype(ml_dtypes.bfloat16).view(np.uint16)
        half = values.astype(np.float16).view(np.uint16)
    rows = [[int(b), int(x), int(h)] for b, x, h in zip(bits, brain, half)]
    (HERE / "rounding.json").write_text(json.dumps(rows, separators=(",", ":")) + "\n")


reference()
rounding()
