"""Frames as tensors, masks as numbers, and the spectral residual, against plain NumPy and OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import saliency_oracle as oracle
from hypothesis import example, given
from hypothesis import strategies as st

from polars_materialize.saliency import spectral
from polars_materialize.saliency.clips import Planes
from polars_materialize.saliency.reducers import moments, reducer
from polars_materialize.saliency.spectral import SpectralResidual, spectral_residual
from polars_materialize.saliency.tensors import to_tensor

AGGREGATORS = ["mean", "ema", "max", "motion-weighted"]
sides = st.integers(1, 11)
seeds = st.integers(0, 2**32 - 1)


def planes_of(frame):
    """A frame as the package holds it."""
    y, u, v = frame
    return Planes(y, u, v, (y.shape[1], y.shape[0]))


def any_frame(width, height, seed):
    """A frame of any bytes, also of those that limited range does not use."""
    random = np.random.default_rng(seed)
    across, down = (width + 1) // 2, (height + 1) // 2
    return tuple(
        random.integers(0, 256, shape, dtype=np.uint8)
        for shape in ((height, width), (down, across), (down, across))
    )


# --- tensors ------------------------------------------------------------------------------------------


@given(width=sides, height=sides, seed=seeds, multiple=st.sampled_from([1, 2, 8, 16]))
def test_a_tensor_is_what_the_oracle_makes_of_a_frame(width, height, seed, multiple):
    frame = any_frame(width, height, seed)
    expected = oracle.tensor(frame, multiple)

    found = to_tensor(planes_of(frame), *expected.shape[1:])

    assert (found.shape, found.dtype) == ((1, *expected.shape), np.float32)
    np.testing.assert_allclose(found[0], expected, atol=2e-6)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((16, 128, 128), (0, 0, 0)),
        ((235, 128, 128), (1, 1, 1)),
        ((126, 128, 128), (110 / 219, 110 / 219, 110 / 219)),
        ((63, 102, 240), (1, 0.00193, 0)),  # pure red
        ((173, 42, 26), (0, 1, 0)),  # pure green
        ((32, 240, 118), (0, 0, 1)),  # pure blue
        ((0, 128, 128), (0, 0, 0)),
        ((255, 128, 128), (1, 1, 1)),
    ],
)
def test_colours_of_bt_709_are_those_of_the_standard(colour, expected):
    frame = [np.full((1, 1), value, np.uint8) for value in colour]

    found = to_tensor(planes_of(frame), 1, 1)[0, :, 0, 0] * oracle.STD + oracle.MEAN

    np.testing.assert_allclose(found, expected, atol=6e-3)


def test_chroma_is_repeated_two_by_two_and_cut_off_at_odd_edges():
    y = np.full((3, 5), 126, np.uint8)
    u = np.full((2, 3), 128, np.uint8)
    v = np.array([[100, 128, 160], [140, 128, 90]], np.uint8)

    red = to_tensor(planes_of((y, u, v)), 3, 5)[0, 0]

    assert [len(np.unique(red[:2, start : start + 2])) for start in (0, 2, 4)] == [1, 1, 1]
    assert len(np.unique(red)) == 5
    assert red[0, 0] < red[0, 2] < red[0, 4]
    assert red[2, 0] > red[2, 2] > red[2, 4]


def test_planes_that_are_turned_views_make_the_same_tensor_as_copies():
    frame = tuple(np.rot90(plane) for plane in any_frame(7, 5, 3))

    turned = to_tensor(planes_of(frame), 8, 8)

    copies = tuple(np.ascontiguousarray(plane) for plane in frame)
    np.testing.assert_array_equal(turned, to_tensor(planes_of(copies), 8, 8))


# --- reducers -----------------------------------------------------------------------------------------


@given(
    shape=st.tuples(st.integers(1, 7), sides, sides),
    seed=seeds,
    aggregator=st.sampled_from(AGGREGATORS),
    alpha=st.floats(0.001, 1),
    still=st.booleans(),
)
@example(shape=(3, 4, 4), seed=0, aggregator="motion-weighted", alpha=0.5, still=True)
@example(shape=(3, 4, 4), seed=0, aggregator="ema", alpha=1.0, still=False)
def test_reducers_are_those_of_the_oracle(shape, seed, aggregator, alpha, *, still):
    random = np.random.default_rng(seed)
    masks = random.uniform(-0.5, 1.5, shape).astype(np.float32)
    lumas = random.integers(0, 256, shape, dtype=np.uint8)
    if still:
        lumas[:] = lumas[0]

    found = reducer(aggregator, alpha)
    for mask, y in zip(masks, lumas, strict=True):
        found.add(mask, y)

    expected = oracle.reduce(masks, lumas, aggregator, alpha)
    np.testing.assert_allclose(found.mask(), expected, atol=1e-9)
    assert moments(found.mask()) == pytest.approx(oracle.moments(expected), abs=1e-9)


def test_motion_counts_against_the_frame_before_and_falls_both_ways():
    dark, bright = np.full((2, 2), 16, np.uint8), np.full((2, 2), 235, np.uint8)
    masks = [np.full((2, 2), value, np.float32) for value in (0.0, 1.0, 0.5)]

    found = reducer("motion-weighted", 0.6)
    for mask, y in zip(masks, (dark, bright, dark), strict=True):
        found.add(mask, y)

    weight = 219 / 255
    assert found.mask()[0, 0] == pytest.approx((weight * 1.0 + weight * 0.5) / (1 + 2 * weight))


def test_still_frames_weigh_a_millionth():
    still = np.full((2, 2), 90, np.uint8)
    found = reducer("motion-weighted", 0.6)
    for value in (0.0, 1.0):
        found.add(np.full((2, 2), value, np.float32), still)

    assert found.mask()[0, 0] == pytest.approx(1e-6 / (1 + 1e-6), rel=1e-9)


def test_values_are_clipped_once_they_are_one_mask_and_not_before():
    found = reducer("mean", 0.6)
    for value in (2.0, -1.0):
        found.add(np.full((1, 2), value, np.float32), np.zeros((1, 2), np.uint8))

    assert moments(found.mask()) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [([[0.25]], (0.25, 0.0)), ([[0, 1]], (0.5, 0.25)), ([[-3, 5]], (0.5, 0.25)), ([[7, 8]], (1.0, 0.0))],
)
def test_the_variance_is_of_the_population(mask, expected):
    assert moments(np.array(mask, float)) == expected


def test_adding_a_mask_does_not_change_it():
    masks = [np.full((2, 2), value, np.float32) for value in (0.25, 0.5)]
    for aggregator in AGGREGATORS:
        found = reducer(aggregator, 0.6)
        for mask in masks:
            found.add(mask, np.zeros((2, 2), np.uint8))

    assert [float(mask[0, 0]) for mask in masks] == [0.25, 0.5]


# --- the spectral residual ----------------------------------------------------------------------------


def blobs(height, width, seed=0):
    """A grey picture with a few soft spots and a little noise, as bytes."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width]
    picture = 60 + 40 * across / width + random.normal(0, 2, (height, width))
    for _ in range(3):
        y, x = random.uniform(0.2, 0.8) * height, random.uniform(0.2, 0.8) * width
        near = (down - y) ** 2 + (across - x) ** 2
        picture += random.uniform(60, 90) * np.exp(-near / (2 * (0.04 * width) ** 2))
    return np.clip(picture, 16, 235).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_the_spectral_residual_is_that_of_the_oracle(seed):
    picture = blobs(64, 64, seed).astype(float)

    np.testing.assert_allclose(spectral_residual(picture), oracle.spectral_map(picture), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_opencv_differs_only_in_the_order_of_smoothing_and_squaring(seed):
    saliency = pytest.importorskip("cv2", reason="needs opencv-contrib").saliency
    picture = blobs(64, 64, seed)

    done, theirs = saliency.StaticSaliencySpectralResidual_create().computeSaliency(picture)

    assert done
    swapped = oracle.spectral_map(picture.astype(float), square_first=False)
    np.testing.assert_allclose(swapped, theirs, atol=0.01)
    assert np.corrcoef(spectral_residual(picture.astype(float)).ravel(), theirs.ravel())[0, 1] > 0.9


def test_the_packages_own_filter_is_opencvs():
    saliency = pytest.importorskip("cv2", reason="needs opencv-contrib").saliency
    picture = blobs(64, 64, 1)
    _, theirs = saliency.StaticSaliencySpectralResidual_create().computeSaliency(picture)

    spectrum = np.fft.fft2(picture.astype(float))
    log = np.log(np.abs(spectrum))
    residual = log - spectral._blur(log, np.full(3, 1 / 3))
    magnitude = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum))))
    line = np.exp(-(np.arange(-2, 3) ** 2) / 128.0)
    ours = spectral._blur(magnitude, line / line.sum()) ** 2

    np.testing.assert_allclose(ours / ours.max(), theirs, atol=0.01)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (120, 90), (270, 480)])
def test_the_map_of_a_whole_frame_resembles_opencvs(height, width):
    saliency = pytest.importorskip("cv2", reason="needs opencv-contrib").saliency
    y = blobs(height, width, 5)
    grey = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)

    ours = SpectralResidual().mask(planes_of((y, grey, grey)))
    _, theirs = saliency.StaticSaliencySpectralResidual_create().computeSaliency(y)

    assert (ours.shape, ours.dtype) == ((height, width), np.float32)
    assert ours.min() >= 0
    assert ours.max() <= 1
    # OpenCV skips pixels when it makes a picture small; where that matters little, little differs.
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > (0.9 if width <= 128 else 0.6)


@given(
    factor=st.integers(1, 4),
    down=st.integers(1, 4),
    seed=seeds,
)
def test_pictures_are_made_small_by_the_mean_of_areas(factor, down, seed):
    picture = np.random.default_rng(seed).uniform(0, 1, (16 * down, 16 * factor))

    small = spectral._shrink(picture, 16)

    expected = picture.reshape(16, down, 16, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(small, expected, atol=1e-12)


@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=seeds)
def test_making_a_picture_small_keeps_its_mean(height, width, seed):
    picture = np.random.default_rng(seed).uniform(0, 1, (height, width))

    assert spectral._shrink(picture, 16).mean() == pytest.approx(picture.mean(), abs=1e-12)


@pytest.mark.parametrize("size", [(64, 64), (128, 96), (100, 70), (33, 200)])
def test_maps_grow_as_opencv_lets_them_grow(size):
    cv2 = pytest.importorskip("cv2", reason="needs opencv")
    small = np.random.default_rng(1).uniform(0, 1, (64, 64))

    grown = spectral._grow(small, *size)

    theirs = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(grown, theirs, atol=1e-6)


@pytest.mark.parametrize("value", [0, 16, 128, 255])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (1, 1), (63, 47)])
def test_a_flat_frame_has_no_saliency(value, width, height):
    planes = [np.full(shape, value, np.uint8) for shape in ((height, width), (1, 1), (1, 1))]

    mask = SpectralResidual().mask(planes_of(planes))

    assert mask.shape == (height, width)
    assert not mask.any()


@pytest.mark.parametrize(("width", "height"), [(1, 2), (2, 1), (2, 2), (3, 5), (65, 1)])
def test_the_smallest_frames_have_a_map(width, height):
    y = np.random.default_rng(0).integers(16, 236, (height, width), dtype=np.uint8)

    mask = SpectralResidual().mask(planes_of((y, y, y)))

    assert mask.shape == (height, width)
    assert np.isfinite(mask).all()
    assert 0 <= mask.min() <= mask.max() <= 1


def test_what_stands_out_is_salient():
    y = np.random.default_rng(3).integers(55, 66, (96, 128), dtype=np.uint8)
    y[42:48, 84:92] = 220

    mask = SpectralResidual().mask(planes_of((y, y, y)))

    down, across = np.unravel_index(mask.argmax(), mask.shape)
    assert 38 <= down <= 52
    assert 80 <= across <= 96
    assert mask[:20, :40].mean() < 0.2 * mask[38:52, 80:96].mean()
