"""What people write with pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from benchmarks.contenders import column

if TYPE_CHECKING:
    from benchmarks.contenders import Job


def join_scores(job: Job) -> None:
    """One left outer join a scorer."""
    table = pq.read_table(job.features)
    for scorer, path in job.scores.items():
        side = pyarrow.json.read_json(path)
        is_ok = pc.equal(side["status"], "ok")
        rows = pa.table(
            {
                job.key: side[job.score_key].cast(table.schema.field(job.key).type),
                column(scorer, "score"): side["score"],
                column(scorer, "status"): pc.if_else(is_ok, "ok", "bad"),
                column(scorer, "runtime_ms"): side["runtime_ms"],
                column(scorer, "frames"): pa.repeat(pa.scalar(0), side.num_rows),
                column(scorer, "source"): pa.repeat(path, side.num_rows),
            }
        )
        table = table.join(rows, job.key, join_type="left outer")
        for part, missing in (("status", "missing"), ("frames", 0)):
            name = column(scorer, part)
            filled = pc.fill_null(table[name], missing)
            table = table.set_column(table.schema.get_field_index(name), name, filled)
    pq.write_table(table, job.out, compression="zstd")
