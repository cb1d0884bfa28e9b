"""Names that tables go by: where keys are looked for, and names that Polars would take for a pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polars_materialize.errors import TableError, listing

if TYPE_CHECKING:
    from collections.abc import Iterable

MORE_KEYS = (
    "video",
    "video_name",
    "video_path",
    "vid",
    "stimulus",
    "stimuli_file",
    "file",
    "filepath",
    "image",
    "image_name",
    "image_path",
    "img_path",
    "image_id",
    "flickr_id",
)
"""Where a key is looked for last, for evidence of all kinds."""

SCORE_KEYS = (
    "clip_id",
    "video_id",
    "chug_video_id",
    "content_id",
    "file_name",
    "filename",
    "basename",
    "name",
    "distorted_path",
    "dis_path",
    "path",
    "key",
    "clip_key",
    "clip_name",
    "src",
    "src_path",
    *MORE_KEYS,
)
"""Where the key of a feature table or a sidecar is looked for, for second opinions."""

LABEL_KEYS = (
    "key",
    "clip_key",
    "clip_id",
    "video_id",
    "chug_video_id",
    "content_id",
    "clip_name",
    "file_name",
    "filename",
    "basename",
    "name",
    "src",
    "source",
    "src_path",
    "distorted_path",
    "dis_path",
    "path",
    *MORE_KEYS,
)
"""Where the key of a feature table or a label file is looked for, for MOS labels."""


def is_pattern(name: str) -> bool:
    """Whether Polars takes a column's name for a pattern of names.

    Example:
        >>> is_pattern("^vmaf.*$"), is_pattern("*"), is_pattern("vmaf*")
        (True, True, False)
    """
    return name == "*" or (name.startswith("^") and name.endswith("$"))


def refuse_patterns(names: Iterable[str], table: str) -> None:
    """Refuses a table with names that Polars would take for a pattern of names.

    Raises:
        TableError: Names them.
    """
    patterns = [name for name in names if is_pattern(name)]
    if patterns:
        problem = f"Polars takes the column names {listing(patterns)} for patterns; rename them"
        raise TableError(table, problem)


def spare_names(taken: Iterable[str], count: int) -> list[str]:
    """Names for columns that a table does not have.

    Example:
        >>> spare_names(["clip_id", "value0"], 2)
        ['value1', 'value2']
    """
    known = set(taken)
    free = (name for name in map("value{}".format, range(len(known) + count)) if name not in known)
    return [next(free) for _ in range(count)]
