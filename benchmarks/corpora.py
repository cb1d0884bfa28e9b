"""The corpora: what there is to make, and where it is kept; `generators` makes it.

A corpus is a name, its sizes and a seed; its path says all three and the version of the generators, so that a
file under that path is always the same file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

GENERATORS = 1
"""Raise this when a generator makes other bytes than before, so that what the old one made is not used."""

SCORERS = ("dover", "musiq", "qalign")
FEATURES = (
    *(
        "adm2",
        "vif_scale0",
        "vif_scale1",
        "vif_scale2",
        "vif_scale3",
        "motion2",
        "psnr_y",
        "psnr_cb",
        "psnr_cr",
    ),
    *("float_ssim", "float_ms_ssim", "ciede2000", "cambi", "adm_scale0", "adm_scale1", "adm_scale2"),
    *("adm_scale3", "motion", "blur", "vmaf"),
)
KEY_COLUMNS = {"text": "clip_id", "path": "src", "integer": "video_id"}
"""The key column of a table, by the kind of its keys."""
SCORE_KEYS = {"text": "clip_id", "path": "name", "integer": "video_id"}
"""The key field of a sidecar that fits."""
LABEL_REGEX = r"^(.+)_\d+p$"
"""What makes a table's text key one of the label file: the labels know sources, the tables renditions."""


@dataclass(frozen=True)
class Corpus:
    """A file or a folder that can be made.

    Attributes:
        kind: The generator, a name in `KINDS`.
        suffix: Of the path; empty for a folder.
        size: What the generator is told, beside the seed.
    """

    kind: str
    suffix: str
    size: dict[str, Any] = field(default_factory=dict)

    def path(self, data: Path, seed: int) -> Path:
        """Where it is kept."""
        parts = [
            f"{name}{value}" if not isinstance(value, str) else value for name, value in self.size.items()
        ]
        return data / ("-".join([self.kind, *parts, f"seed{seed}", f"v{GENERATORS}"]) + self.suffix)

    @property
    def bytes(self) -> int:
        """Roughly how much disk it takes."""
        size = self.size
        if self.kind in {"table", "measured", "shards"}:
            return int(size["rows"] * (size["features"] + 2) * (24 if self.suffix == ".jsonl" else 7))
        if self.kind == "tables":
            return int(size["count"] * size["rows"] * 200)
        if self.kind == "raw-clips":
            return int(size["count"] * size["frames"] * size["width"] * size["height"] * 3 // 2)
        if self.kind in {"payloads", "files"}:
            # A small file takes whole blocks.
            return int(size["count"] * max(200 + size["frames"] * 75, 4096 if self.kind == "files" else 0))
        return int(size["clips"] * 100)


def table(
    rows: int,
    *,
    features: int = len(FEATURES),
    order: str = "sorted",
    key: str = "text",
    low: int = 100,
    high: int = 160,
    suffix: str = ".parquet",
) -> Corpus:
    """A feature table with `low` to `high` rows a clip."""
    size = {"rows": rows, "features": features, "low": low, "high": high, "order": order, "key": key}
    return Corpus("table", suffix, size)


def measured(rows: int) -> Corpus:
    """The rows of `table(rows)`, with the saliency that an earlier run has measured of each clip."""
    return Corpus("measured", ".parquet", table(rows).size)


def shards(rows: int, count: int) -> Corpus:
    """The rows of `table(rows)` in a folder of files."""
    return Corpus("shards", "", {**table(rows).size, "count": count})


def sidecar(scorer: str, clips: int, *, key: str = "text") -> Corpus:
    """JSON lines of one scorer: a scalar score a clip."""
    return Corpus("sidecar", ".jsonl", {"scorer": scorer, "clips": clips, "key": key})


def payloads(count: int, frames: int = 10) -> Corpus:
    """Wrapper payloads with a score a frame, one a line."""
    return Corpus("payloads", ".jsonl", {"count": count, "frames": frames})


def files(count: int, frames: int = 10) -> Corpus:
    """A folder of files that hold one such payload each."""
    return Corpus("files", "", {"count": count, "frames": frames})


def labels(clips: int) -> Corpus:
    """A CSV of mean opinion scores on 0 to 100."""
    return Corpus("labels", ".csv", {"clips": clips})


def tables(count: int, rows: int) -> Corpus:
    """A folder of small tables, each with sidecars of its own."""
    return Corpus("tables", "", {"count": count, "rows": rows})


def raw_clips(count: int, width: int = 960, height: int = 540, frames: int = 8) -> Corpus:
    """A folder of raw clips, a table that names each of them once, and the halves of that table."""
    return Corpus("raw-clips", "", {"count": count, "width": width, "height": height, "frames": frames})


def table_names(count: int) -> list[str]:
    """The names of the tables in such a folder, less their suffix."""
    return [f"table_{index:04d}" for index in range(count)]
