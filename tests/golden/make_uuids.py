"""Makes uuids.parquet and plain_uuids.parquet: columns of UUIDs as pyarrow writes them.

The first has Arrow's own schema beside Parquet's, the second, as files of other programs, Parquet's
only. The UUIDs as text are in the column `text`.

    python tests/golden/make_uuids.py      (pyarrow 26.0.1)
"""

import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent


def main() -> None:
    ids = [uuid.uuid5(uuid.NAMESPACE_URL, f"prompt/{number}") for number in range(3)]
    ids += [None, uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)]
    columns = {
        "prompt": [f"{number}+1?" for number in range(len(ids))],
        "id": pa.array([one and one.bytes for one in ids], pa.uuid()),
        "text": [one and str(one) for one in ids],
        "bytes": pa.array([one and one.bytes for one in ids], pa.binary(16)),
    }
    table = pa.table(columns)
    for name, stores in [("uuids", True), ("plain_uuids", False)]:
        pq.write_table(table, HERE / f"{name}.parquet", store_schema=stores)


if __name__ == "__main__":
    main()
