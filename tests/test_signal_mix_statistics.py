"""Statistics of an audit against a plain-Python reading: holes, ties, constants, large means and scales."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polars_materialize as pm
from polars_materialize.signal_mix import values as values_module
from polars_materialize.signal_mix.clusters import cluster, order_by_likeness
from polars_materialize.signal_mix.moments import compute_moments
from polars_materialize.signal_mix.ranks import average_ranks
from polars_materialize.signal_mix.values import Values, sample_rows


def pairs(left, right):
    """The rows where both are finite."""
    return [(x, y) for x, y in zip(left, right, strict=True) if usable(x) and usable(y)]


def usable(x):
    return x is not None and math.isfinite(x)


def plain_pearson(left, right):
    """Pearson's r in exact arithmetic but for the last root; none if it does not exist."""
    rows = [(Fraction(x), Fraction(y)) for x, y in pairs(left, right)]
    if len(rows) < 3:
        return None
    mean_x = sum(x for x, _ in rows) / len(rows)
    mean_y = sum(y for _, y in rows) / len(rows)
    sxx = sum((x - mean_x) ** 2 for x, _ in rows)
    syy = sum((y - mean_y) ** 2 for _, y in rows)
    if not sxx or not syy:
        return None
    sxy = sum((x - mean_x) * (y - mean_y) for x, y in rows)
    size = math.sqrt(float(sxy * sxy / (sxx * syy)))
    return size if sxy >= 0 else -size


def plain_ranks(column):
    return [sum(y < x for y in column) + (sum(y == x for y in column) + 1) / 2 for x in column]


def plain_spearman(left, right):
    rows = pairs(left, right)
    if len(rows) < 3:
        return None
    return plain_pearson(plain_ranks([x for x, _ in rows]), plain_ranks([y for _, y in rows]))


def moments_of(columns, target=None):
    frame = pl.LazyFrame(columns, schema=dict.fromkeys(columns, pl.Float64))
    return compute_moments(Values(frame, list(columns), "t"), target)


numbers = st.one_of(
    st.none(),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0, 2.0]),
    st.integers(-3, 3).map(float),
    st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 3)),
    st.integers(0, 3).map(lambda x: 1e9 + x),
)
tables = st.integers(0, 12).flatmap(
    lambda rows: st.lists(st.lists(numbers, min_size=rows, max_size=rows), min_size=2, max_size=4)
)


def same(found, expected, tolerance=1e-9):
    if expected is None:
        return math.isnan(found)
    return abs(found - expected) <= tolerance


@given(tables)
def test_correlations_are_those_of_plain_python(table):
    columns = {f"c{i}": column for i, column in enumerate(table)}

    found = moments_of(columns, "c0")

    for i, left in enumerate(table):
        assert same(found.rho[i], plain_spearman(left, table[0]))
        for j, right in enumerate(table):
            assert found.n[i, j] == len(pairs(left, right))
            if i != j:
                assert same(found.r[i, j], plain_pearson(left, right)), (left, right)


@given(tables)
def test_moments_are_those_of_plain_python(table):
    found = moments_of({f"c{i}": column for i, column in enumerate(table)})

    for i, column in enumerate(table):
        finite = [Fraction(x) for x in column if usable(x)]
        assert found.count[i] == len(finite)
        assert same(found.low[i], float(min(finite)) if finite else None, 0)
        assert same(found.high[i], float(max(finite)) if finite else None, 0)
        if finite:
            assert found.mean[i] == pytest.approx(float(sum(finite) / len(finite)), rel=1e-12, abs=1e-9)
        if len(finite) > 1:
            assert found.std[i] == pytest.approx(math.sqrt(statistics.variance(finite)), rel=1e-9, abs=1e-12)
        else:
            assert math.isnan(found.std[i])


@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, 1e300]), max_size=20))
def test_average_ranks(column):
    assert average_ranks(np.array(column)).tolist() == plain_ranks(column)


@pytest.mark.parametrize(
    ("mean", "std"), [(1e9, 1.0), (-1e12, 1e-2), (0, 1e-200), (0, 1e200), (1e300, 1e290)]
)
def test_a_large_mean_or_scale_costs_no_digits(mean, std):
    random = np.random.default_rng(0)
    x = random.normal(size=2000)
    y = x + random.normal(size=2000)
    column = (x * std + mean).tolist()
    other = y.tolist()
    other[3] = None

    found = moments_of({"x": column, "y": other}, "y")

    assert found.r[0, 1] == pytest.approx(plain_pearson(column, other), abs=1e-12)
    exact = [Fraction(value) for value in column]
    middle = sum(exact) / len(exact)
    spread = sum((value - middle) ** 2 for value in exact) / (len(exact) - 1) / Fraction(std) ** 2
    assert found.std[0] / std == pytest.approx(math.sqrt(spread), rel=1e-10)


def test_what_is_constant_on_the_rows_of_a_pair_has_no_correlation():
    x = [0.1, 0.1, 0.1, 5.0, 7.0]
    y = [1.0, 2.0, 4.0, None, None]

    found = moments_of({"x": x, "y": y}, "y")

    assert math.isnan(found.r[0, 1])
    assert math.isnan(found.rho[0])
    assert found.n[0, 1] == 3


def test_an_outlier_outside_of_a_pair_costs_no_digits():
    random = np.random.default_rng(1)
    x = [*random.normal(size=100).tolist(), 1e15]
    y = [*random.normal(size=100).tolist(), None]

    found = moments_of({"x": x, "y": y})

    assert found.r[0, 1] == pytest.approx(plain_pearson(x, y), abs=1e-12)


def holed(rows=20_000, columns=12):
    random = np.random.default_rng(2)
    base = random.normal(size=rows)
    table = {}
    for i in range(columns):
        column = np.round(base * i + random.normal(size=rows) * 5, 1)
        column[random.random(rows) < 0.03 * (i % 4)] = np.nan
        table[f"c{i}"] = column
    return pl.DataFrame(table)


def test_large_tables_agree_with_pandas():
    frame = holed()
    names = frame.columns

    found = compute_moments(Values(frame.lazy(), names, "t"), "c1")

    pandas = pytest.importorskip("pandas")
    other = pandas.DataFrame({name: frame[name].to_numpy() for name in names})
    off = ~np.eye(len(names), dtype=bool)
    assert np.abs(found.r - other.corr().to_numpy())[off].max() < 1e-12
    assert np.abs(found.std - other.std().to_numpy()).max() < 1e-12


def test_large_tables_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    frame = holed(5000, 5)

    found = compute_moments(Values(frame.lazy(), frame.columns, "t"), "c1")

    target = frame["c1"].to_numpy()
    for i, name in enumerate(frame.columns):
        column = frame[name].to_numpy()
        both = np.isfinite(column) & np.isfinite(target)
        assert found.rho[i] == pytest.approx(stats.spearmanr(column[both], target[both])[0], abs=1e-12)


@pytest.mark.parametrize("kept", [0, 2**28])
@pytest.mark.parametrize("plan", ["memory", "parquet", "other"])
def test_numbers_are_the_same_however_they_are_read(tmp_path, monkeypatch, kept, plan):
    frame = holed(3001, 6)
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=500)
    expected = compute_moments(Values(frame.lazy(), frame.columns, "t"), "c0")
    monkeypatch.setattr(values_module, "KEPT_BYTES", kept)
    monkeypatch.setattr(values_module, "SLICE_VALUES", 6000)
    lazy = {
        "memory": frame.lazy(),
        "parquet": pl.scan_parquet(tmp_path / "t.parquet"),
        "other": pl.scan_parquet(tmp_path / "t.parquet").filter(pl.lit(value=True) | pl.col("c0").is_null()),
    }[plan]

    found = compute_moments(Values(lazy, frame.columns, "t"), "c0")

    np.testing.assert_array_equal(found.n, expected.n)
    np.testing.assert_allclose(found.r, expected.r, atol=1e-13, equal_nan=True)
    np.testing.assert_array_equal(found.rho, expected.rho)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-13)


@pytest.mark.parametrize("rows", [1, 1023, 1024, 1025, 5000])
def test_blocks_have_every_row_once_and_in_order(monkeypatch, rows):
    monkeypatch.setattr(values_module, "BLOCK_VALUES", 1)
    frame = pl.DataFrame({"x": np.arange(rows), "y": [None] * rows}, schema={"x": pl.Int64, "y": pl.Float32})

    blocks = list(Values(frame.lazy(), ["x", "y"], "t").blocks())

    assert np.concatenate([block[0] for block in blocks]).tolist() == list(range(rows))
    assert all(block.shape[1] == 1024 for block in blocks[:-1])
    assert all(np.isnan(block[1]).all() for block in blocks)


def test_dtypes_are_read_as_numbers():
    frame = pl.DataFrame(
        {
            "flag": [True, False, None],
            "money": pl.Series(["1.5", "2.5", None]).cast(pl.Decimal(10, 2)),
            "big": pl.Series([2**60, 2**60 + 256, None], dtype=pl.UInt64),
            "f32": pl.Series([1.5, float("inf"), None], dtype=pl.Float32),
        }
    )

    values = Values(frame.lazy(), frame.columns, "t")
    block = next(values.blocks())

    assert block[0].tolist()[:2] == [1.0, 0.0]
    assert block[1].tolist()[:2] == [0.0, 1.0]  # above the least
    assert block[2].tolist()[:2] == [0.0, 256.0]
    assert np.isnan(block[3]).tolist() == [False, True, True]
    assert np.isnan(block[:, 2]).all()
    found = compute_moments(values, None)
    assert found.low.tolist() == [0.0, 1.5, 2.0**60, 1.5]
    assert found.high.tolist() == [1.0, 2.5, 2.0**60 + 256, 1.5]
    assert found.mean.tolist() == [0.5, 2.0, 2.0**60 + 128, 1.5]


WIDE = {
    "clock": (pl.Int64, lambda x: 1_700_000_000_000_000_000 + x),
    "unsigned": (pl.UInt64, lambda x: 2**64 - 1 - x),
    "i128": (pl.Int128, lambda x: -(2**127) + x),
    "u128": (pl.UInt128, lambda x: 2**128 - 1 - x),
    "whole range": (pl.Int128, lambda x: (-(2**127), 2**127 - 1)[x % 2]),
    "outlier": (pl.Int64, lambda x: 0 if x == 5 else 2**62 + x),
    "decimal": (pl.Decimal(38, 3), lambda x: Decimal(10**20) + Decimal(x) / 1000),
    "small decimal": (pl.Decimal(18, 3), lambda x: Decimal(10**12) + Decimal(x) / 1000),
    "decimal range": (pl.Decimal(38, 0), lambda x: Decimal((10**38 - 1) * (-1) ** x)),
}


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("kept", [0, 2**28])
def test_integers_and_decimals_lose_no_digit(monkeypatch, kept, holes):
    monkeypatch.setattr(values_module, "KEPT_BYTES", kept)
    random = np.random.default_rng(4)
    steps = random.integers(0, 40, 60).tolist()
    table = {name: [make(x) for x in steps] for name, (_, make) in WIDE.items()}
    noisy = (np.array(steps) + random.normal(size=60) * 30).tolist()
    if holes:
        # The row of the outlier is a hole of the other columns.
        noisy = [None if x == 5 else y for x, y in zip(steps, noisy, strict=True)]
        table["clock"][7] = table["u128"][9] = table["decimal"][11] = None
    schema = {name: dtype for name, (dtype, _) in WIDE.items()}
    frame = pl.DataFrame(
        {"y": noisy, **table, "z": noisy}, schema={"y": pl.Float64, **schema, "z": pl.Float64}
    )

    for target in ("y", "clock", "decimal", "outlier"):
        found = compute_moments(Values(frame.lazy(), frame.columns, "t"), target)

        names = frame.columns
        columns = {name: exactly(frame[name].to_list()) for name in names}
        for i, name in enumerate(names):
            assert same(found.rho[i], plain_spearman(columns[name], columns[target]), 1e-12), name
            for j, other in enumerate(names):
                if i != j:
                    assert same(found.r[i, j], plain_pearson(columns[name], columns[other]), 1e-12), other
    for i, name in enumerate(names):
        rows = [x for x in columns[name] if x is not None]
        assert found.varies[i]
        assert (found.low[i], found.high[i]) == (float(min(rows)), float(max(rows)))
        assert found.mean[i] == pytest.approx(float(sum(rows) / len(rows)), rel=1e-15, abs=1e23)
        if name not in ("y", "z", "whole range", "outlier", "decimal range"):
            assert found.mean[i] == pytest.approx(float(sum(rows) / len(rows)), rel=1e-15)
        assert found.std[i] == pytest.approx(math.sqrt(statistics.variance(rows)), rel=1e-12)


def exactly(column):
    """A column as fractions, its holes as null."""
    return [Fraction(x) if usable(x) else None for x in column]


def test_two_integers_with_one_float_are_not_constant():
    column = pl.Series([2**53, 2**53 + 1, 2**53, 2**53 + 1, 2**53])

    table = pm.audit_signals(pl.DataFrame({"mos": [1, 2, 1, 3, 2], "psnr_sum": column})).tables[0]

    assert table.constant_columns == []
    assert table.family_health["error_energy"].status == "covered"
    assert table.target_correlations[0].pearson == pytest.approx(
        plain_pearson([1, 2, 1, 3, 2], [0, 1, 0, 1, 0]), abs=1e-12
    )


@pytest.mark.parametrize("far", [1e8, 1e60, 1e149, 1e158, 1e160, 1e161, 1e200, 1e308])
def test_two_outliers_outside_of_a_pair_cost_no_digits(far):
    random = np.random.default_rng(7)
    x = [*random.normal(size=50).tolist(), far, -far]
    y = [*random.normal(size=50).tolist(), None, None]

    found = moments_of({"x": x, "y": y}, "y")

    assert found.r[0, 1] == pytest.approx(plain_pearson(x, y), abs=1e-12)
    assert found.rho[0] == pytest.approx(plain_spearman(x, y), abs=1e-12)


def test_a_sample_is_decided_by_its_seed_alone():
    frame = pl.LazyFrame({"x": range(1000), "row": range(1000)})

    first, again, other = (
        sample_rows(frame, 1000, size=50, seed=seed).collect()["x"].to_list() for seed in (1, 1, 2)
    )

    assert first == again == sorted(set(first))
    assert len(first) == 50
    assert first != other


# --- clusters -----------------------------------------------------------------------------------------

matrices = st.integers(0, 7).flatmap(
    lambda size: st.lists(
        st.sampled_from([0.0, 0.5, 0.9, -0.9, 0.96, -0.97, 1.0, float("nan")]),
        min_size=size * size,
        max_size=size * size,
    ).map(lambda flat: np.array(flat).reshape(size, size))
)


@given(matrices, st.sampled_from([0.5, 0.95, 1.0]))
def test_members_of_a_cluster_are_all_alike_and_clusters_cannot_be_joined(matrix, threshold):
    r = np.triu(matrix, 1) + np.triu(matrix, 1).T

    groups = cluster(r, threshold)

    seen = [member for group in groups for member in group]
    assert len(seen) == len(set(seen))
    for group in groups:
        assert len(group) > 1
        assert all(abs(r[i, j]) >= threshold for i in group for j in group if i != j)
    whole = [*groups, *([i] for i in range(len(r)) if i not in seen)]
    for place, one in enumerate(whole):
        for other in whole[place + 1 :]:
            assert not all(abs(r[i, j]) >= threshold for i in one for j in other)


@given(matrices)
def test_an_order_has_every_column_once(matrix):
    r = np.triu(matrix, 1) + np.triu(matrix, 1).T
    groups = cluster(r, 0.95)

    order = order_by_likeness(r, groups)

    assert sorted(order) == list(range(len(r)))
    for group in groups:
        places = sorted(order.index(member) for member in group)
        assert places == list(range(places[0], places[0] + len(group)))


def test_sixty_pooled_features_read_as_a_few_groups():
    random = np.random.default_rng(3)
    base = random.normal(size=(6, 500))
    columns = np.array([base[i % 6] + 0.05 * random.normal(size=500) for i in range(60)])

    groups = cluster(np.corrcoef(columns), 0.95)

    assert [sorted({member % 6 for member in group}) for group in groups] == [[i] for i in range(6)]
