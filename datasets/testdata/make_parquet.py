"""Makes the Parquet files of this folder with pyarrow.

    pip install pyarrow==26.0.1
    python make_parquet.py
"""
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
N = 300

pairs = pa.table({
    "source": [f"word {i}" for i in range(N)],
    "extra": [float(i) for i in range(N)],
    "target": pa.array([f"wörd {i % 7}" for i in range(N)], pa.large_string()),
    "number": pa.array(range(N), pa.int32()),
    "answers": [None if i % 3 == 0 else [f"a{j}" for j in range(i % 4)] for i in range(N)],
    "null": pa.array([None if i == 200 else "x" for i in range(N)]),
})
for name, options in {
    "snappy": dict(compression="snappy", row_group_size=100, data_page_size=512),
    "zstd-v2": dict(compression="zstd", row_group_size=77, data_page_version="2.0", use_dictionary=False),
    "plain": dict(compression="none", use_dictionary=False, write_statistics=False),
}.items():
    pq.write_table(pairs, HERE / f"pairs-{name}.parquet", **options)

nested = pa.table({"translation": [{"en": f"word {i}", "de": f"Wort {i}"} for i in range(5)]})
pq.write_table(nested, HERE / "nested.parquet", compression="gzip")
