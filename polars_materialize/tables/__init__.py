"""Any table file to a LazyFrame and back: lossless, atomic, the format by suffix.

`scan_table` and `sink_table` are the two ends of every run. `read_records` reads the small side (scores,
labels) together with the place of every row, so that an error can name it.
"""

from polars_materialize.tables.chunks import Beside
from polars_materialize.tables.failures import POLARS_FAILURES
from polars_materialize.tables.files import Dialect, File, find, find_shards, is_small, is_up_to
from polars_materialize.tables.kept_types import changed_types
from polars_materialize.tables.parallel import SIDE_BY_SIDE, in_order
from polars_materialize.tables.records import Records, Whole, read_records, shapes_of
from polars_materialize.tables.scans import refuse_unreadable
from polars_materialize.tables.shards import Shard, Table, open_table, scan_files, scan_table
from polars_materialize.tables.sinks import (
    check_partitions,
    check_sink,
    sink_table,
    write,
    write_partitions,
    write_spliced,
)
from polars_materialize.tables.splice import Splice
from polars_materialize.tables.staging import FOOTER_KEY, staged, staged_folder, staging_mark

__all__ = [
    "FOOTER_KEY",
    "POLARS_FAILURES",
    "SIDE_BY_SIDE",
    "Beside",
    "Dialect",
    "File",
    "Records",
    "Shard",
    "Splice",
    "Table",
    "Whole",
    "changed_types",
    "check_partitions",
    "check_sink",
    "find",
    "find_shards",
    "in_order",
    "is_small",
    "is_up_to",
    "open_table",
    "read_records",
    "refuse_unreadable",
    "scan_files",
    "scan_table",
    "shapes_of",
    "sink_table",
    "staged",
    "staged_folder",
    "staging_mark",
    "write",
    "write_partitions",
    "write_spliced",
]
