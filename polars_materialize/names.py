"""Names that tables go by: where keys are looked for, and names that Polars would take for a pattern."""

from __future__ import annotations

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
)
"""Where the key of a feature table or a label file is looked for, for MOS labels."""


def is_pattern(name: str) -> bool:
    """Whether Polars takes a column's name for a pattern of names.

    Example:
        >>> is_pattern("^vmaf.*$"), is_pattern("*"), is_pattern("vmaf*")
        (True, True, False)
    """
    return name == "*" or (name.startswith("^") and name.endswith("$"))
