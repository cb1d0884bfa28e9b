"""Shards joined with the evidence that they need: the same rows as with all of it."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import chains
from polars_materialize.chains import Attached

NAN = float("nan")
KEYS = {
    "text": pl.Series(["b", "a", None, " ", "é", "a", "c", "b "]),
    "integers": pl.Series([3, -1, None, 2**62, 0, -1, 7, 3]),
    "floats": pl.Series([0.0, -0.0, NAN, None, 2.5, float("inf"), 1.0, -0.0]),
    "small floats": pl.Series([0.0, -0.0, NAN, None, 2.5, 7.0, 1.0, -0.0], dtype=pl.Float32),
    "decimals": pl.Series(["0", "-1", None, "2.50", "0", "7", "1", "-1"]).cast(pl.Decimal(12, 2)),
    "dictionary": pl.Series(["b", "a", None, "c", "d", "a", "c", "b"], dtype=pl.Categorical()),
    "enum": pl.Series(["b", "a", None, "c", "d", "a", "c", "b"], dtype=pl.Enum(["d", "c", "b", "a"])),
    "nothing": pl.Series([None] * 8, dtype=pl.String),
}


def _write(folder, values: pl.Series) -> None:
    """Three shards: some rows, none, and the rest."""
    table = pl.DataFrame({"clip_id": values, "vmaf": range(len(values))})
    (folder / "shards").mkdir()
    for index, part in enumerate((table.head(3), table.head(0), table.tail(-3))):
        part.write_parquet(folder / "shards" / f"{index}.parquet")
    keys = values.drop_nulls().drop_nans() if values.dtype.is_float() else values.drop_nulls()
    texts = list(dict.fromkeys(str(key).strip() for key in keys.to_list()[:-2] if str(key).strip())) or ["x"]
    scores = pl.DataFrame({"clip_id": texts, "score": [index / 7 for index in range(len(texts))]})
    numbers = pl.col("clip_id").str.replace(r"(\.\d*?)0+$", "${1}").str.strip_suffix(".").replace("-0", "0")
    scores.with_columns(numbers).unique("clip_id", maintain_order=True).write_csv(folder / "scores.csv")
    (folder / "mos.csv").write_text("clip_id,mos\na,4.5\nc,2\n0,1\n-1,3\n")


def _refresh(folder, out: str, policy: str, suffix: str = "parquet") -> list[pl.DataFrame]:
    pm.refresh_table(
        "shards",
        f"{out}/{{stem}}.{suffix}",
        labels=pm.LabelPart(files=["mos.csv"], min_match_rate=0, label_scale="1:5"),
        scores=pm.ScorePart(files=["dover=scores.csv"], missing_policy=policy),
        base_dir=folder,
    )
    return [pm.scan_table(folder / out / f"{index}.{suffix}").collect() for index in range(3)]


@pytest.mark.parametrize(
    ("kind", "policy"),
    [(kind, policy) for kind in KEYS for policy in ("mark", "drop") if (kind, policy) != ("nothing", "drop")],
)
def test_shards_get_what_they_get_from_all_evidence(kind, policy, tmp_path, monkeypatch):
    _write(tmp_path, KEYS[kind])

    whole = _refresh(tmp_path, "whole", policy)
    monkeypatch.setattr(chains, "FEW", 0)
    cut = _refresh(tmp_path, "cut", policy)

    for one, other in zip(whole, cut, strict=True):
        assert_frame_equal(one, other)
    if policy == "mark":
        assert pl.concat(cut)["vmaf"].to_list() == list(range(8))


def test_keys_of_one_hash_are_told_apart(tmp_path, monkeypatch):
    _write(tmp_path, KEYS["text"])

    whole = _refresh(tmp_path, "whole", "mark")
    monkeypatch.setattr(chains, "FEW", 0)
    monkeypatch.setattr(Attached, "_hash", lambda _, _key, name: pl.col(name).hash() % 2)
    cut = _refresh(tmp_path, "cut", "mark")

    for one, other in zip(whole, cut, strict=True):
        assert_frame_equal(one, other)


def test_shards_of_text_are_joined_alike(tmp_path, monkeypatch):
    (tmp_path / "shards").mkdir()
    for index, text in enumerate(("clip_id,vmaf\na,1\nb,2\n", "clip_id,vmaf\n", "clip_id,vmaf\nc,3\na,4\n")):
        (tmp_path / "shards" / f"{index}.csv").write_text(text)
    (tmp_path / "scores.csv").write_text("clip_id,score\na,0.5\nc,0.25\n")
    (tmp_path / "mos.csv").write_text("clip_id,mos\na,4.5\n")

    whole = _refresh(tmp_path, "whole", "mark", "csv")
    monkeypatch.setattr(chains, "FEW", 0)
    cut = _refresh(tmp_path, "cut", "mark", "csv")

    for one, other in zip(whole, cut, strict=True):
        assert_frame_equal(one, other)


def test_clips_of_several_sizes_are_all_found(tmp_path, monkeypatch):
    """Saliency knows rows by a path and its geometry; evidence is found by the path."""
    (tmp_path / "shards").mkdir()
    rows = {"src": ["a.yuv", "a.yuv", None, "b.yuv"], "width": [8, 4, 8, None], "height": [8, 4, 8, 4]}
    (tmp_path / "a.yuv").write_bytes(bytes(range(96)))
    for index in range(2):
        pl.DataFrame(rows)[2 * index : 2 * index + 2].write_parquet(tmp_path / "shards" / f"{index}.parquet")

    def run(out: str) -> pl.DataFrame:
        target = f"{out}/{{stem}}.parquet"
        pm.materialize_saliency("shards", target, root=str(tmp_path), base_dir=tmp_path)
        return pm.scan_table(tmp_path / out).collect()

    whole = run("whole")
    monkeypatch.setattr(chains, "FEW", 0)

    assert_frame_equal(run("cut"), whole)
    assert whole["saliency_status"].n_unique() > 1


def test_only_the_evidence_of_a_shard_is_joined_with_it(tmp_path, monkeypatch):
    _write(tmp_path, KEYS["text"])
    monkeypatch.setattr(chains, "FEW", 0)
    heights: list[int] = []
    cut = Attached._cut

    def watched(*arguments):
        heights.append(cut(*arguments).height)
        return cut(*arguments)

    monkeypatch.setattr(Attached, "_cut", watched)
    _refresh(tmp_path, "cut", "mark")

    # Labels and scores for each, in any order: the distinct values of three rows, of none, and of five.
    assert sorted(heights) == [0, 0, 3, 3, 5, 5]
