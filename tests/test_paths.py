"""Which files an input would read."""

from __future__ import annotations

import glob
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polars_materialize as pm
from polars_materialize.paths import reads

NAMES = st.sampled_from(["a", "b.csv", ".c.csv", ".d", "x.parquet"])
PARTS = st.sampled_from(["a", "*", "**", "*.csv", ".*", ".d", "[ab]*", "?", "x.parquet"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=6), st.lists(PARTS, min_size=1, max_size=3))
def test_a_glob_reads_what_python_finds_by_it(paths, parts):
    pattern = "/".join(parts)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "root" / "in"
        root.mkdir(parents=True)
        files = []
        for path in paths:
            file = root.joinpath(*path)
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
            except OSError:  # a folder has that name, or a file the name of a folder
                continue
            if file.is_file():
                files.append(file)
        if not glob.has_magic(pattern) or (root / pattern).exists():
            return
        names = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207 - what reads them asks so
        found = {str((root / name).resolve()) for name in names if not name.endswith("/")}

        for file in files:
            assert reads(root, pattern, str(file)) == (str(file) in found), (pattern, file)


@pytest.mark.parametrize("features", ["shards/*.parquet", "shards/**/*.parquet", "shards"])
@pytest.mark.parametrize("out", ["shards/.x.parquet", "shards/.new/x.parquet"])
def test_an_output_may_be_hidden_among_its_inputs(tmp_path, monkeypatch, features, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    pl.DataFrame({"clip_id": ["a"]}).write_parquet("shards/1.parquet")
    (tmp_path / "s.jsonl").write_text('{"key": "a", "score": 1}\n')

    for _ in range(2):
        audit = pm.materialize_scores(features, "s=s.jsonl", out)
        assert audit.input_rows == 1

    with pytest.raises(pm.MaterializeError, match="would be an input too"):
        pm.materialize_scores(features, "s=s.jsonl", "shards/x.parquet")
