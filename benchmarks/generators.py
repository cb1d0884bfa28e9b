"""Makes corpora, seeded: `python -m benchmarks.generators` makes those that it is told.

Each is written beside its path and renamed when complete. Tables are made in chunks: memory stays bounded
however many rows are asked for.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.corpora import FEATURES, KEY_COLUMNS, SCORE_KEYS, SCORERS, table_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_ROWS = 131_072


def make(kind: str, path: Path, seed: int, size: dict[str, Any]) -> None:
    """Makes one corpus, unless it is there."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.unlink(missing_ok=True)
    KINDS[kind](part, seed, **size)
    part.rename(path)


def _ids(clips: int, key: str, *, first: int = 0) -> pl.Series:
    """The ids of clips, as a table or a sidecar names them."""
    number = pl.int_range(first, first + clips, eager=True).alias("number").to_frame()
    digits = pl.col("number").cast(pl.String).str.zfill(7)
    height = (pl.col("number") * 7919 % 4).replace_strict([0, 1, 2, 3], ["360", "540", "720", "1080"])
    name = pl.format("ugc_{}_{}p", digits, height)
    texts = {
        "integer": pl.col("number") + 5_000_000_000,
        "text": name,
        "source": pl.format("ugc_{}", digits),
        "name": pl.format("{}.mp4", name),
        "path": pl.format("/corpora/ugc/{}/{}.mp4", pl.col("number") % 97, name),
    }
    return number.select(texts[key].alias("id")).to_series()


def _make_table(  # noqa: PLR0917 - called by name
    path: Path, seed: int, rows: int, features: int, low: int, high: int, order: str, key: str
) -> None:
    _write(path, _table_chunks(seed, rows, features, low, high, order, key))


def _make_measured(path: Path, seed: int, rows: int, **table: Any) -> None:
    clip = pl.col("clip_id").str.extract(r"(\d+)").cast(pl.Int64)
    measured = {
        "src": pl.format("{}.mp4", "clip_id"),
        "saliency_mean": (clip * 7919 % 1000) / 1000,
        "saliency_var": (clip * 104_729 % 997) / 9970,
    }
    _write(path, (chunk.with_columns(**measured) for chunk in _table_chunks(seed, rows, **table)))


def _write(path: Path, chunks: Iterator[pl.DataFrame]) -> None:
    if path.suffixes[-2] == ".jsonl":
        with path.open("wb") as stream:
            for chunk in chunks:
                chunk.write_ndjson(stream)
        return
    writer = None
    for chunk in chunks:
        part = chunk.to_arrow(compat_level=pl.CompatLevel.oldest())
        if writer is None:
            # Dictionaries for the ids only: floats have no use for them, and not every reader is quick there.
            ids = [name for name in ("src", chunk.columns[0]) if name in chunk.columns]
            writer = pq.ParquetWriter(path, part.schema, compression="zstd", use_dictionary=ids)
        writer.write_table(part, row_group_size=CHUNK_ROWS)
    if writer is not None:
        writer.close()


def _make_shards(path: Path, seed: int, rows: int, count: int, **table: Any) -> None:
    path.mkdir()
    ends = [rows * (index + 1) // count for index in range(count)]
    held, start, index = pl.DataFrame(), 0, 0
    for chunk in _table_chunks(seed, rows, **table):
        held = pl.concat([held, chunk]) if held.height else chunk
        while index < count and ends[index] - start <= held.height:
            size = ends[index] - start
            held.head(size).write_parquet(path / f"shard_{index:05d}.parquet")
            held, start, index = held.slice(size), ends[index], index + 1


def _table_chunks(  # noqa: PLR0917
    seed: int, rows: int, features: int, low: int, high: int, order: str, key: str
) -> Iterator[pl.DataFrame]:
    """A table's rows: the frames of a clip share its quality, as real features do."""
    rng = np.random.default_rng([seed, rows, features])
    lengths = rng.integers(low, high + 1, size=rows // low + 1)
    clips = int(np.searchsorted(np.cumsum(lengths), rows)) + 1
    ends = np.cumsum(lengths[:clips])
    clip = np.repeat(np.arange(clips, dtype=np.int32), lengths[:clips])[:rows]
    frame = (np.arange(rows) - (ends - lengths[:clips])[clip]).astype(np.int32)
    if order == "shuffled":
        places = rng.permutation(rows)
        clip, frame = clip[places], frame[places]
    names = [FEATURES[i] if i < len(FEATURES) else f"feature_{i:03d}" for i in range(features)]
    quality, ids = rng.normal(size=clips), _ids(clips, key)
    for start in range(0, rows, CHUNK_ROWS):
        own = clip[start : start + CHUNK_ROWS]
        yield pl.DataFrame(
            {
                KEY_COLUMNS[key]: ids.gather(own),
                "frame": frame[start : start + CHUNK_ROWS].astype(np.int64),
                **{name: _feature(rng, quality[own], index) for index, name in enumerate(names)},
            }
        )


def _feature(rng: np.random.Generator, quality: np.ndarray, index: int) -> np.ndarray:
    values = (index % 7) * 10.0 + 0.7 * quality + 0.3 * rng.standard_normal(quality.size)
    return values.round(6)


def _make_sidecar(path: Path, seed: int, scorer: str, clips: int, key: str, *, first: int = 0) -> None:
    """One row a clip; one clip in a hundred has none, one row in two hundred says that its scorer failed."""
    rng = np.random.default_rng([seed, clips, first, SCORERS.index(scorer)])
    failed = rng.random(clips) < 0.005
    rows = pl.DataFrame(
        {
            SCORE_KEYS[key]: _ids(clips, "name" if key == "path" else key, first=first),
            "score": rng.normal(0.6, 0.1, size=clips).round(4),
            "runtime_ms": rng.gamma(4.0, 20.0, size=clips).round(2),
            "status": np.where(failed, "failed", "ok"),
        }
    ).with_columns(score=pl.when(pl.col("status") == "ok").then("score"))
    path.write_bytes(_spaced(rows.filter(pl.Series(rng.random(clips) >= 0.01))))


def _spaced(rows: pl.DataFrame) -> bytes:
    """JSON lines with the spaces that Python's `json` writes; no text in them holds a colon or a comma."""
    return rows.write_ndjson().encode().replace(b":", b": ").replace(b",", b", ")


def _payload_chunks(seed: int, count: int, frames: int) -> Iterator[pl.DataFrame]:
    rng = np.random.default_rng([seed, count, frames])
    step = 20_000
    for start in range(0, count, step):
        own = min(step, count - start)
        scores = rng.normal(70.0, 10.0, size=(own, frames)).round(2)
        times = rng.gamma(4.0, 0.5, size=(own, frames)).round(3)
        flat = pl.DataFrame(
            {
                "clip": np.repeat(np.arange(own), frames),
                "frame_idx": np.tile(np.arange(frames), own),
                "predicted_vmaf_or_mos": scores.ravel(),
                "runtime_ms": times.ravel(),
            }
        )
        nested = flat.group_by("clip", maintain_order=True).agg(
            pl.struct("frame_idx", "predicted_vmaf_or_mos", "runtime_ms").alias("frames")
        )
        summary = pl.DataFrame(
            {
                "competitor": ["fork-nr-metric"] * own,
                "plcc": np.zeros(own),
                "srocc": np.zeros(own),
                "rmse": np.zeros(own),
                "runtime_total_ms": times.sum(axis=1).round(3),
                "params": np.full(own, 7_700_000),
                "gflops": np.full(own, 42.1),
            }
        )
        yield pl.DataFrame(
            {
                "name": _ids(own, "name", first=start),
                "frames": nested["frames"],
                "summary": summary.to_struct("summary"),
            }
        )


def _make_payloads(path: Path, seed: int, count: int, frames: int) -> None:
    with path.open("wb") as stream:
        for chunk in _payload_chunks(seed, count, frames):
            stream.write(_spaced(chunk))


def _make_files(path: Path, seed: int, count: int, frames: int) -> None:
    path.mkdir()
    for chunk in _payload_chunks(seed, count, frames):
        for name, line in zip(chunk["name"], _spaced(chunk).splitlines(keepends=True), strict=True):
            (path / f"{name}.json").write_bytes(line)


def _make_labels(path: Path, seed: int, clips: int) -> None:
    """One clip in a hundred has no label."""
    rng = np.random.default_rng([seed, clips])
    rows = pl.DataFrame(
        {
            "clip_id": _ids(clips, "source"),
            "mos": rng.uniform(0.0, 100.0, size=clips).round(2),
            "mos_std_dev": rng.uniform(5.0, 25.0, size=clips).round(3),
            "n_ratings": rng.integers(20, 200, size=clips),
        }
    )
    rows.filter(pl.Series(rng.random(clips) >= 0.01)).write_csv(path)


def _make_tables(path: Path, seed: int, count: int, rows: int) -> None:
    path.mkdir()
    for index, name in enumerate(table_names(count)):
        chunks = _table_chunks(seed + index, rows, len(FEATURES), 100, 160, "sorted", "text")
        pl.concat(list(chunks)).write_parquet(path / f"{name}.parquet")
        for scorer in SCORERS:
            _make_sidecar(path / f"{name}.{scorer}.jsonl", seed + index, scorer, rows // 100 + 1, "text")


def _make_raw(path: Path, seed: int, count: int, width: int, height: int, frames: int) -> None:  # noqa: PLR0917
    """Raw clips in 4:2:0: soft shapes with a little noise, which is all that saliency needs."""
    path.mkdir()
    random = np.random.default_rng(seed)
    grey = bytes([128]) * (2 * (width // 2) * (height // 2))
    x, y = np.arange(width) / width, (np.arange(height) / height)[:, None]
    for index in range(count):
        with (path / f"{index}.yuv").open("wb") as stream:
            for frame in range(frames):
                waves = np.sin(9 * x + index + frame / 8) * np.cos(7 * y - index)
                luma = 126 + 60 * waves + random.normal(0, 6, (height, width))
                stream.write(np.clip(luma, 16, 235).astype(np.uint8).tobytes() + grey)
    names = [f"{index}.yuv" for index in range(count)]
    table = pl.DataFrame({"src": names, "width": width, "height": height})
    for name, part in (
        ("table", table),
        ("half_0", table.head(count // 2)),
        ("half_1", table.slice(count // 2)),
    ):
        part.write_parquet(path / f"{name}.parquet")


KINDS: dict[str, Callable[..., None]] = {
    "table": _make_table,
    "measured": _make_measured,
    "shards": _make_shards,
    "sidecar": _make_sidecar,
    "payloads": _make_payloads,
    "files": _make_files,
    "labels": _make_labels,
    "tables": _make_tables,
    "raw-clips": _make_raw,
}


def main() -> None:
    """Makes the corpora that standard input lists, as JSON: `[[kind, path, seed, size], ...]`."""
    for kind, path, seed, size in json.load(sys.stdin):
        make(kind, Path(path), seed, size)


if __name__ == "__main__":
    main()
