"""Reads the tables of a folder with pyarrow, DuckDB and polars, and prints what they see as one line of JSON.

Per file: what pyarrow says of schema and rows, and what DuckDB and polars count, sum and find in it.
"""

import json
import math
import os
import sys

import duckdb
import numpy
import polars
import pyarrow
import pyarrow.ipc
import pyarrow.parquet


def arrow(path):
    """An IPC file, or the whole batches of a stream."""
    source = pyarrow.memory_map(path)
    if path.endswith(".arrow"):
        return pyarrow.ipc.open_file(source).read_all(), None
    reader = pyarrow.ipc.open_stream(source)
    batches, error = [], None
    while True:
        try:
            batches.append(reader.read_next_batch())
        except StopIteration:
            break
        except (pyarrow.ArrowInvalid, OSError) as caught:
            error = str(caught)
            break
    return pyarrow.Table.from_batches(batches, reader.schema), error


def numpy_views(column):
    """Chunks of a tensor column as NumPy arrays; says whether they lie in the file's own memory."""
    before = pyarrow.total_allocated_bytes()
    views = [chunk.to_numpy_ndarray() for chunk in column.chunks]
    own = all(
        view.ctypes.data == chunk.storage.flatten().buffers()[1].address
        + 4 * chunk.storage.flatten().offset
        for view, chunk in zip(views, column.chunks)
    )
    return views, own and pyarrow.total_allocated_bytes() == before


def plain(values):
    """JSON has no NaN."""
    if isinstance(values, list):
        return [plain(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return str(values)
    return values


def facts(table):
    report = {
        "rows": table.num_rows,
        "names": table.schema.names,
        "types": [str(field.type) for field in table.schema],
        "metadata": {
            key.decode(): value.decode()
            for key, value in (table.schema.metadata or {}).items()
            if not key.startswith(b"ARROW:")
        },
        "columns": {
            name: plain(table[name].to_pylist()) for name in table.schema.names if name != "value"
        },
    }
    if "value" not in table.schema.names:
        return report
    column = table["value"]
    if isinstance(column.type, pyarrow.FixedShapeTensorType):
        views, zero_copy = numpy_views(column)
        report["tensor"] = {
            "shape": list(column.type.shape),
            "names": list(column.type.dim_names or []),
            "zero_copy": zero_copy,
        }
        rows = numpy.concatenate(views).tolist() if views else []
    else:
        rows = column.to_pylist()
    report["value"] = plain(rows)
    return report


def summed(rows):
    return plain(float(sum(sum(row) for row in rows)))


def read(path):
    if path.endswith(".csv"):
        query = f"select count(*), sum(list_sum(value::float[])), min(token) from '{path}'"
        return {"duckdb": plain(list(duckdb.sql(query).fetchall()[0]))}
    if path.endswith(".parquet"):
        table, error = pyarrow.parquet.read_table(path), None
        duck = duckdb.sql(f"select * from '{path}'")
        frame = polars.read_parquet(path)
    else:
        table, error = arrow(path)
        seen = table
        duck = duckdb.sql("select * from seen")
        frame = None if error else polars.read_ipc(path) if path.endswith(".arrow") else (
            polars.read_ipc_stream(path)
        )
    report = {"error": error, "arrow": facts(table)}
    if "value" in table.schema.names:
        rows = duck.fetchall()
        report["duckdb"] = {
            "type": str(duck.types[-1]),
            "token": str(duck.types[duck.columns.index("token")]) if "token" in duck.columns else "",
            "rows": len(rows),
            "sum": summed([row[-1] for row in rows]),
        }
        if frame is not None:
            report["polars"] = {
                "rows": frame.height,
                "type": str(frame.schema["value"]),
                "sum": summed(frame["value"].to_arrow().to_pylist()),
            }
    return report


folder = sys.argv[1]
print(json.dumps({name: read(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}))
