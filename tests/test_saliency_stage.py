"""The stage: networks, workers, timeouts, and what becomes of a clip that fails."""

from __future__ import annotations

import os
import re
import signal
import stat
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import saliency_oracle as oracle
from onnx import TensorProto, helper

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.saliency import containers, models, raw
from polars_materialize.saliency import stage as stages
from polars_materialize.saliency.clips import Clip, ClipError, Planes, Sampling
from polars_materialize.saliency.models import OnnxModel
from polars_materialize.saliency.spectral import SpectralResidual
from polars_materialize.saliency.stage import Stage

AGGREGATORS = ["mean", "ema", "max", "motion-weighted"]
LONG_S = 60
"""Long after a hang would have ended, also on a machine that does other things."""


def staged(model=None, *, kind=Stage, sampling=None, timeout_s=60.0, workers=2, aggregator="mean"):
    """A stage of plain options."""
    return kind(
        model=model or SpectralResidual(),
        sampling=sampling or Sampling(),
        aggregator=aggregator,
        ema_alpha=0.6,
        timeout_s=timeout_s,
        programs=None,
        workers=workers,
    )


def raw_clips(folder, count, frames=3, width=16, height=12):
    """Raw clips that differ."""
    folder.mkdir(exist_ok=True)
    found = []
    for index in range(count):
        path = oracle.raw(folder / f"{index}.yuv", oracle.noise(frames, width, height, seed=index))
        found.append(Clip(path.name, str(path), width, height))
    return found


def measured(path, **options):
    """The status, message, mean and variance of one clip."""
    found = pm.measure_saliency(pl.DataFrame({"src": [str(path)]}), **options)
    columns = ("saliency_status", "saliency_message", "saliency_mean", "saliency_var")
    return found.select(columns).row(0)


# --- what networks give -------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (60, 44), (9, 65), (8, 8), (16, 71)])
def test_a_network_that_takes_multiples_of_8_gets_them(tmp_path, networks, width, height, aggregator):
    frames = oracle.noise(4, width, height)
    path = oracle.encode(tmp_path / "a.mkv", frames)

    found = measured(path, model_path=networks / "block.onnx", temporal_aggregator=aggregator, ema_alpha=0.3)

    expected = oracle.saliency(frames, oracle.block_mask, aggregator, 0.3)
    assert found[:2] == ("ok", None)
    assert found[2:] == pytest.approx(expected, abs=1e-5, rel=1e-4)


def test_the_network_takes_nothing_else_indeed(networks):
    session = onnxruntime.InferenceSession(str(networks / "block.onnx"))

    with pytest.raises(Exception, match="Concat"):
        session.run(None, {"a frame": np.zeros((1, 3, 47, 63), np.float32)})


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (1, 1)])
def test_a_network_that_takes_any_size_gets_the_frame_alone(tmp_path, networks, width, height, aggregator):
    frames = oracle.noise(3, width, height)
    path = oracle.encode(tmp_path / "a.nut", frames, codec="rawvideo")

    found = measured(path, model_path=networks / "pixel.onnx", temporal_aggregator=aggregator)

    expected = oracle.saliency(frames, oracle.pixel_mask, aggregator)
    assert found[2:] == pytest.approx(expected, abs=1e-5)


def logit_network(path, scale, bias):
    """A network that gives other values than shares."""
    weights = {"weights": np.float32(scale * oracle.WEIGHTS).reshape(1, 3, 1, 1), "bias": np.float32([bias])}
    nodes = [helper.make_node("Conv", ["picture", "weights", "bias"], ["mask"])]
    ends = [oracle.value("picture", oracle.PICTURE)], [oracle.value("mask", oracle.MASK)]
    return oracle.save(path, nodes, *ends, weights)


@pytest.mark.parametrize(
    ("scale", "bias"), [(12, 0.5), (255, 127.5), (-12, -3), (0, 1.002), (0, -0.002)], ids=str
)
def test_logits_and_levels_are_no_masks(tmp_path, scale, bias):
    frames = oracle.noise(3)
    path = oracle.encode(tmp_path / "a.mkv", frames)

    status, message, mean, var = measured(path, model_path=logit_network(tmp_path / "n.onnx", scale, bias))

    values = np.tensordot(scale * oracle.WEIGHTS, oracle.tensor(frames[0]), 1) + bias
    assert (status, mean, var) == ("model-failed", None, None)
    least, most = re.match(r"gives a mask from (\S+) to (\S+), with ", message).groups()
    assert float(least) == pytest.approx(values.min(), abs=1e-3)
    assert float(most) == pytest.approx(values.max(), abs=1e-3)
    assert "% of its values outside 0..1" in message


def few_beyond(values):
    """A network that gives 0.5, but some values of its own in its first line."""

    def save(path):
        line = np.full((1, 1, 48, 64), 0.5, np.float32)
        line[0, 0, 0, : len(values)] = values
        nodes = [
            helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["mean", "mean"], ["zero"]),
            helper.make_node("Add", ["zero", "line"], ["mask"]),
        ]
        ends = [oracle.value("picture", (1, 3, 48, 64))], [oracle.value("mask", (1, 1, 48, 64))]
        return oracle.save(path, nodes, *ends, {"line": line})

    return save


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize(
    ("values", "fails"),
    [
        ([7.0] * 3, False),  # 3 of 3,072 values are less than one of a thousand
        ([7.0] * 4, True),
        ([-7.0, 7.0], False),
        ([-7.0, 7.0] * 2, True),
        ([1.0009] * 64, False),
        ([-0.0009] * 64, False),
        ([1.0011] * 64, True),
        ([-0.0011] * 64, True),
    ],
    ids=str,
)
def test_a_few_values_beyond_0_to_1_are_clipped_once_they_are_reduced(tmp_path, values, fails, aggregator):
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(2))

    status, _, *found = measured(
        path, model_path=few_beyond(values)(tmp_path / "n.onnx"), temporal_aggregator=aggregator
    )

    mask = np.full(48 * 64, 0.5)
    mask[: len(values)] = values
    assert status == ("model-failed" if fails else "ok")
    if not fails:
        assert found == pytest.approx(oracle.moments(mask), abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (1, 3, 64, "W"), (1, 3, "H", 96), (1, 3, 48, 64)])
def test_a_network_of_fixed_size_gets_smaller_frames_padded(tmp_path, shape):
    frames = oracle.noise(2)
    path = oracle.encode(tmp_path / "a.mkv", frames)
    network = oracle.pixel_network(tmp_path / "fixed.onnx", shape=shape)

    found = measured(path, model_path=network)

    assert found[:2] == ("ok", None)
    assert found[2:] == pytest.approx(oracle.saliency(frames, oracle.pixel_mask), abs=1e-5)


def one_mask(kind, dtype=TensorProto.FLOAT, **attributes):
    """A network that means over channels, then does something else."""

    def save(path):
        nodes = [
            helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[1], keepdims=1),
            helper.make_node(kind, ["mean"], ["mask"], **attributes),
        ]
        inputs = [oracle.value("picture", oracle.PICTURE)]
        return oracle.save(path, nodes, inputs, [oracle.value("mask", (1, 1, "h", "w"), dtype)])

    return save


@pytest.mark.parametrize("shape", ["plain", "no channel", "neither", "mask and more"])
def test_a_mask_may_have_its_own_number_of_dimensions(tmp_path, shape):
    frames = oracle.noise(2)
    path = oracle.encode(tmp_path / "a.mkv", frames)
    axes = {"plain": [], "no channel": [1], "neither": [0, 1], "mask and more": []}[shape]
    nodes = [helper.make_node("Conv", ["picture", "weights", "bias"], ["grey"])]
    nodes.append(
        helper.make_node("Squeeze", ["grey", "axes"], ["mask"])
        if axes
        else helper.make_node("Identity", ["grey"], ["mask"])
    )
    outputs = [oracle.value("mask", [None] * (4 - len(axes)))]
    if shape == "mask and more":
        nodes.append(helper.make_node("ReduceMean", ["picture"], ["more"]))
        outputs.append(oracle.value("more", [1] * 4))
    constants = {
        "weights": oracle.WEIGHTS.astype(np.float32).reshape(1, 3, 1, 1),
        "bias": np.float32([oracle.BIAS]),
    }
    if axes:
        constants["axes"] = np.array(axes, np.int64)
    inputs = [oracle.value("picture", oracle.PICTURE)]
    network = oracle.save(tmp_path / "n.onnx", nodes, inputs, outputs, constants)

    found = measured(path, model_path=network)

    assert found[:2] == ("ok", None)
    assert found[2:] == pytest.approx(oracle.saliency(frames, oracle.pixel_mask), abs=1e-5)


def infinite(path):
    """A network that divides by zero."""
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["mean", "mean"], ["zero"]),
        helper.make_node("Add", ["zero", "one"], ["ones"]),
        helper.make_node("Div", ["ones", "zero"], ["mask"]),
    ]
    inputs = [oracle.value("picture", oracle.PICTURE)]
    return oracle.save(path, nodes, inputs, [oracle.value("mask", oracle.MASK)], {"one": np.float32(1)})


def by_content(path, last):
    """A network that takes a black picture; of any other's mask only 24 lines are left."""
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["picture"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["coloured"]),
        helper.make_node("Where", ["coloured", "few", "many"], ["lines"]),
        helper.make_node("Slice", ["mean", "begin", "lines", "axis"], ["cut"]),
        last,
    ]
    constants = {
        "zero": np.float32(0),
        "few": np.array([24]),
        "many": np.array([10**6]),
        "begin": np.array([0]),
        "axis": np.array([2]),
    }
    inputs = [oracle.value("picture", oracle.PICTURE)]
    return oracle.save(path, nodes, inputs, [oracle.value("mask", (1, 1, "h", "w"))], constants)


FAILING = {
    "not a number": (one_mask("Sqrt"), "not finite"),
    "infinite": (infinite, "not finite"),
    "another shape": (
        lambda path: by_content(path, helper.make_node("Identity", ["cut"], ["mask"])),
        "gives 1x1x24x64 for a frame of 1x3x48x64",
    ),
    "an error inside": (
        lambda path: by_content(path, helper.make_node("Sum", ["mean", "cut"], ["mask"])),
        "Sum",
    ),
    "too small": (
        lambda path: oracle.pixel_network(path, shape=(1, 3, 32, 64)),
        "takes a height of 32 only; the clip's is 48",
    ),
    "too narrow": (
        lambda path: oracle.pixel_network(path, shape=(1, 3, "H", 40)),
        "takes a width of 40 only; the clip's is 64",
    ),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_network_that_fails_on_frames_fails_the_clip(tmp_path, kind):
    make, words = FAILING[kind]
    network = make(tmp_path / "n.onnx")
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(2))

    status, message, mean, var = measured(path, model_path=network)

    assert (status, mean, var) == ("model-failed", None, None)
    assert words in message
    assert str(tmp_path) not in message


def two_inputs(path):
    """A network of two pictures."""
    node = helper.make_node("Add", ["picture", "other"], ["mask"])
    inputs = [oracle.value(name, oracle.PICTURE) for name in ("picture", "other")]
    return oracle.save(path, [node], inputs, [oracle.value("mask", oracle.PICTURE)])


def file_of(content):
    """Writes a file of some bytes."""

    def write(path):
        path.write_bytes(content)
        return path

    return write


def identity(shape, dtype=TensorProto.FLOAT):
    """A network that gives what it gets."""
    return lambda path: oracle.one_node_network(path, "Identity", shape, shape, dtype)


def external(path):
    """A network with its weights in another file."""
    onnx.save(
        onnx.load(oracle.pixel_network(path)),
        path,
        save_as_external_data=True,
        size_threshold=0,
        location="weights.bin",
    )
    return path


REFUSED = {
    "missing": (lambda path: path, "cannot be read: No such file or directory"),
    "a folder": (lambda path: path.mkdir() or path, "cannot be read: Is a directory"),
    "empty": (file_of(b""), "not an ONNX network"),
    "text": (file_of(b"no network at all"), "not an ONNX network"),
    "a picture": (file_of(b"\x89PNG\r\n\x1a\n" + bytes(100)), "not an ONNX network"),
    "two inputs": (two_inputs, "expected one input tensor(float) [1, 3, H, W]"),
    "half precision": (identity(oracle.PICTURE, TensorProto.FLOAT16), "takes picture tensor(float16)"),
    "double precision": (identity(oracle.PICTURE, TensorProto.DOUBLE), "takes picture tensor(double)"),
    "bytes": (identity(oracle.PICTURE, TensorProto.UINT8), "takes picture tensor(uint8)"),
    "grey": (identity((1, 1, "H", "W")), "expected one input tensor(float) [1, 3, H, W]"),
    "channels last": (identity((1, 48, 64, 3)), "expected one input tensor(float) [1, 3, H, W]"),
    "two frames": (identity((2, 3, "H", "W")), "expected one input tensor(float) [1, 3, H, W]"),
    "three dimensions": (identity((3, "H", "W")), "expected one input tensor(float) [1, 3, H, W]"),
    "other files": (external, "keeps weights in other files"),
    "three masks": (identity(oracle.PICTURE), "gives 1x3x"),
    "half the size": (one_mask("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), "gives 1x1x"),
    "one number a channel": (
        lambda path: oracle.one_node_network(path, "GlobalAveragePool", (1, 3, 1, 1)),
        "gives 1x3x1x1",
    ),
    "text out": (one_mask("Cast", TensorProto.STRING, to=TensorProto.STRING), "gives tensor(string)"),
    "truth out": (one_mask("Cast", TensorProto.BOOL, to=TensorProto.BOOL), "gives tensor(bool)"),
    "whole numbers out": (one_mask("Cast", TensorProto.INT64, to=TensorProto.INT64), "gives tensor(int64)"),
    "no picture of any size": (
        lambda path: oracle.save(
            path,
            [
                helper.make_node("Flatten", ["picture"], ["line"]),
                helper.make_node("MatMul", ["line", "weights"], ["mask"]),
            ],
            [oracle.value("picture", oracle.PICTURE)],
            [oracle.value("mask", (1, 1))],
            {"weights": np.zeros((5, 1), np.float32)},
        ),
        "takes no picture",
    ),
    "cut off": (
        lambda path: file_of(oracle.block_network(path).read_bytes()[:200])(path),
        "not an ONNX network",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_that_takes_no_pictures_is_refused_before_anything_is_decoded(tmp_path, kind):
    make, words = REFUSED[kind]
    network = make(tmp_path / "n.onnx")
    lazy = pl.LazyFrame({"src": ["gone.mp4"]})

    with pytest.raises(errors.ModelError) as caught:
        pm.add_saliency(lazy, model_path=network)  # which is not collected

    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{network}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.fields["path"] == str(network)
    assert caught.value.code == "model"


def test_a_batch_of_any_size_is_one_frame(tmp_path):
    frames = oracle.noise(2)
    path = oracle.encode(tmp_path / "a.mkv", frames)
    network = oracle.pixel_network(tmp_path / "n.onnx", shape=("N", "C", "H", "W"))

    assert measured(path, model_path=network)[2:] == pytest.approx(
        oracle.saliency(frames, oracle.pixel_mask), abs=1e-5
    )


@pytest.mark.parametrize("side", [1, 2, 4, 8, 12, 14, 16, 28, 32, 64, 128])
def test_the_multiple_that_a_network_wants_is_found(tmp_path, side):
    half = {"kernel_shape": [side, side], "strides": [side, side]}
    nodes = [
        helper.make_node("Conv", ["picture", "weights"], ["plain"]),
        helper.make_node("MaxPool", ["plain"], ["small"], **half),
        helper.make_node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Concat", ["plain", "large"], ["both"], axis=1),
        helper.make_node("ReduceMax", ["both"], ["mask"], axes=[1], keepdims=0),
    ]
    constants = {
        "weights": np.ones((1, 3, 1, 1), np.float32),
        "scales": np.float32([1, 1, side, side]),
    }
    inputs, outputs = [oracle.value("picture", oracle.PICTURE)], [oracle.value("mask", (1, "h", "w"))]
    path = oracle.save(tmp_path / "n.onnx", nodes, inputs, outputs, constants)

    assert OnnxModel(path, "n.onnx", 1)._multiple == side


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_a_mask_may_be_of_any_floats(tmp_path, kind):
    frames = oracle.noise(2)
    path = oracle.encode(tmp_path / "a.mkv", frames)

    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sigmoid", ["mean"], ["share"]),
        helper.make_node("Cast", ["share"], ["mask"], to=kind),
    ]
    ends = [oracle.value("picture", oracle.PICTURE)], [oracle.value("mask", (1, 1, "h", "w"), kind)]
    found = measured(path, model_path=oracle.save(tmp_path / "n.onnx", nodes, *ends))

    shares = [1 / (1 + np.exp(-oracle.tensor(frame).mean(axis=0))) for frame in frames]
    within = 1e-3 if kind == TensorProto.FLOAT16 else 1e-5
    expected = oracle.moments(oracle.reduce(shares, None))
    assert found[:2] == ("ok", None)
    assert found[2:] == pytest.approx(expected, abs=within)


def test_a_frame_that_is_lent_several_cores_gives_the_same(tmp_path, networks, monkeypatch):
    frames = oracle.noise(3)
    path = oracle.encode(tmp_path / "a.mkv", frames)
    alone = measured(path, model_path=networks / "block.onnx", workers=4)
    monkeypatch.setattr(models, "SHARE", 64 * 48 // 3)

    assert measured(path, model_path=networks / "block.onnx", workers=4)[2:] == pytest.approx(
        alone[2:], abs=1e-9
    )


# --- workers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_results_are_the_same_bit_for_bit_however_many_workers(tmp_path, networks, aggregator):
    paths = [
        *(oracle.encode(tmp_path / f"{n}.mkv", oracle.noise(n, 40, 30, seed=n)) for n in (1, 3, 7, 9, 2)),
        tmp_path / "gone.mkv",
    ]
    clips = pl.DataFrame({"src": [str(path) for path in paths]})

    def run(workers):
        return pm.measure_saliency(
            clips,
            model_path=networks / "block.onnx",
            temporal_aggregator=aggregator,
            max_frames=9,
            frame_samples=6,
            workers=workers,
        )

    one = run(1)
    assert one["saliency_status"].to_list().count("ok") == 5
    for workers in (2, 5):
        assert run(workers).equals(one, null_equal=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_masks_are_reduced_in_the_order_of_frames_though_some_take_longer(tmp_path, workers):
    class Uneven:
        default_id = "uneven"

        def mask(self, planes):
            time.sleep(0.03 if planes.y[0, 0] % 2 else 0.0)
            return np.full(planes.y.shape, planes.y[0, 0] / 255, np.float32)

    levels = [200, 31, 50, 77, 20, 141, 16]
    frames = [
        tuple(np.full(shape, level, np.uint8) for shape in ((2, 2), (1, 1), (1, 1))) for level in levels
    ]
    path = oracle.raw(tmp_path / "a.yuv", frames)

    [found] = staged(Uneven(), workers=workers, aggregator="ema").run([Clip("a", str(path), 2, 2)])

    masks = [np.full((2, 2), level / 255) for level in levels]
    assert found.mean == pytest.approx(oracle.reduce(masks, None, "ema", 0.6)[0, 0], abs=1e-7)
    assert found.frames == 7


def test_frames_in_memory_are_as_many_as_there_is_work_for(tmp_path):
    held, most = set(), []

    class Slow:
        default_id = "slow"

        def mask(self, planes):
            time.sleep(0.01)
            return np.zeros(planes.y.shape, np.float32)

    class Counting(Stage):
        def _frames(self, clip, check):
            for index, planes in enumerate(super()._frames(clip, check)):
                held.add(index)
                most.append(index)
                yield planes

    path = oracle.raw(tmp_path / "a.yuv", oracle.noise(40, 4, 4))
    done = []

    class Watching(Slow):
        def mask(self, planes):
            found = super().mask(planes)
            done.append(len(most) - len(done))
            return found

    stage = staged(Watching(), kind=Counting, sampling=Sampling(40, 40), workers=2)

    [found] = stage.run([Clip("a", str(path), 4, 4)])

    assert found.frames == 40
    assert max(done) <= 2 * 2 + 2


def test_progress_is_told_of_every_clip(tmp_path):
    told = []

    staged().run(raw_clips(tmp_path, 7), lambda done, total: told.append((done, total)))

    assert told[-1] == (7, 7)
    assert {total for _, total in told} == {7}
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# --- clips that fail ----------------------------------------------------------------------------------


def test_raw_video_needs_a_geometry(tmp_path):
    [clip] = raw_clips(tmp_path, 1)

    for width, height in ((0, 12), (16, 0), (0, 0), (-1, 12)):
        [found] = staged().run([Clip("0.yuv", clip.path, width, height)])
        assert (found.status, found.mean, found.frames) == ("missing-geometry", None, 0)
        assert "width and height" in found.message


def test_a_missing_file_is_missing_whatever_its_geometry(tmp_path):
    [found] = staged().run([Clip("a.yuv", str(tmp_path / "a.yuv"))])

    assert found.status == "missing-source"


@pytest.mark.parametrize("change", ["grown", "rewritten", "replaced", "removed"])
def test_a_clip_that_changes_while_it_is_read_fails(tmp_path, change):
    [clip] = raw_clips(tmp_path, 1)
    path = Path(clip.path)

    class Meddling(SpectralResidual):
        def mask(self, planes):
            if change == "grown":
                path.write_bytes(path.read_bytes() + b"x")
            elif change == "rewritten":
                os.utime(path, ns=(1, time.time_ns()))
            elif change == "replaced":
                other = path.with_suffix(".new")
                other.write_bytes(path.read_bytes())
                other.replace(path)
            else:
                path.unlink(missing_ok=True)
            return super().mask(planes)

    [found] = staged(Meddling(), sampling=Sampling(1, 1)).run([clip])

    assert (found.status, found.mean) == ("missing-source" if change == "removed" else "decode-failed", None)
    if change != "removed":
        assert found.message == "changed while it was read"


def test_a_clip_whose_pictures_change_size_fails(tmp_path):
    options = {"codec": "libx264", "options": {"qp": "0"}}
    parts = [
        oracle.encode(tmp_path / f"{width}.h264", oracle.noise(3, width, 48), **options).read_bytes()
        for width in (64, 32)
    ]
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(parts))

    [found] = staged().run([Clip("a", str(path))])

    assert (found.status, found.message) == ("decode-failed", "changes from 64x48 to 32x48 in its 4. frame")


OURS = [
    TypeError,
    AttributeError,
    KeyError,
    ValueError,
    AssertionError,
    RuntimeError,
    MemoryError,
    IndexError,
]


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("where", ["opening", "decoding", "the model", "reducing"])
def test_an_error_of_the_program_is_no_clips_status_and_ends_the_run(tmp_path, monkeypatch, where, kind):
    clips, model = raw_clips(tmp_path, 5), SpectralResidual()

    class Breaking(Stage):
        def _frames(self, clip, check):
            if where == "opening" and clip.written == "2.yuv":
                raise kind("ours")
            for number, planes in enumerate(super()._frames(clip, check)):
                if where == "decoding" and number == 1 and clip.written == "2.yuv":
                    raise kind("ours")
                yield planes

    def broken(*_):
        raise kind("ours")

    if where == "the model":
        monkeypatch.setattr(model, "mask", broken, raising=False)
    if where == "reducing":
        monkeypatch.setattr(stages, "moments", broken)

    with pytest.raises(kind, match="ours"):
        staged(model, kind=Breaking).run(clips)

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("clip-")]


@pytest.mark.parametrize("kind", [TypeError, AttributeError, ValueError])
@pytest.mark.parametrize("name", ["clip.mkv", "clip.yuv"])
def test_an_error_in_a_decoder_of_ours_ends_the_run(tmp_path, monkeypatch, name, kind):
    write = oracle.raw if name.endswith(".yuv") else oracle.encode
    path = write(tmp_path / name, oracle.noise(2, 16, 12))

    def broken(*_):
        raise kind("ours")

    monkeypatch.setattr(raw, "evenly", broken)
    monkeypatch.setattr(containers, "take_first", broken)
    table = pl.DataFrame({"src": [str(path)], "width": [16], "height": [12]})

    with pytest.raises(kind, match="ours"):
        pm.add_saliency(table)


def test_errors_of_onnxruntime_are_a_models_and_others_are_ours(networks, monkeypatch):
    model = OnnxModel(networks / "pixel.onnx", "pixel.onnx", 1)
    [frame] = oracle.noise(1, 16, 12)
    planes = Planes(*frame, stored=(16, 12))

    class Session:
        def __init__(self, error):
            self.error = error

        def run(self, *_):
            raise self.error

    theirs = onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException("out of\nluck")
    monkeypatch.setattr(model, "_session", Session(theirs))
    with pytest.raises(ClipError, match="out of"):
        model.mask(planes)
    monkeypatch.setattr(model, "_session", Session(TypeError("ours")))
    with pytest.raises(TypeError, match="ours"):
        model.mask(planes)


def test_a_clip_names_its_sizes(tmp_path):
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(2, 64, 48), rotation=90)

    [found] = staged().run([Clip("a", str(path))])

    assert (found.size, found.stored, found.frames) == ((48, 64), (64, 48), 2)


# --- decoders that hang -------------------------------------------------------------------------------


def test_a_slow_decode_ends_in_time(tmp_path):
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(8))

    [found] = staged(timeout_s=1e-6).run([Clip("a", str(path))])

    assert (found.status, found.mean) == ("decode-failed", None)
    assert found.message == "decoding took longer than decode_timeout_s 1e-06"


def test_waiting_for_the_network_is_not_decoding(tmp_path):
    class Slow(SpectralResidual):
        def mask(self, planes):
            time.sleep(0.3)
            return super().mask(planes)

    [clip] = raw_clips(tmp_path, 1, frames=6)

    [found] = staged(Slow(), timeout_s=1.0, workers=1).run([clip])

    assert (found.status, found.frames) == ("ok", 6)


def ended(stage, clips):
    """The results of a run, which fails the test and not the machine if it hangs."""
    found = []
    thread = threading.Thread(target=lambda: found.extend(stage.run(clips)), daemon=True)
    thread.start()
    thread.join(LONG_S)
    assert not thread.is_alive(), "the run hangs"
    return found


def test_a_decoder_that_is_stuck_inside_a_call_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "GRACE_S", 0.2)
    release = threading.Event()

    class Stuck(Stage):
        def _frames(self, clip, check):
            if int(clip.written.partition(".")[0]) % 2:
                release.wait()
            yield from super()._frames(clip, check)

    clips = raw_clips(tmp_path, 8)
    try:
        found = ended(staged(kind=Stuck, timeout_s=0.2, workers=1), clips)
    finally:
        release.set()

    assert [result.status for result in found] == ["ok", "decode-failed"] * 4
    assert {found[index].message for index in (1, 3, 5, 7)} == {
        "decoding took longer than decode_timeout_s 0.2"
    }
    assert found[0::2] == staged().run(clips[0::2])


def test_a_decoder_that_is_stuck_after_some_frames_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "GRACE_S", 0.2)
    release = threading.Event()

    class Stuck(Stage):
        def _frames(self, clip, check):
            yield from super()._frames(clip, check)
            release.wait()

    try:
        [found] = ended(staged(kind=Stuck, timeout_s=0.2), raw_clips(tmp_path, 1))
    finally:
        release.set()

    assert (found.status, found.mean) == ("decode-failed", None)


def alive(pid):
    """Whether a process runs; one that has ended and waits to be noted does not."""
    place = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        return place.exists() and place.read_text().rpartition(")")[2].split()[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pids):
    """Whether processes end soon; those that do not are ended here."""
    for _ in range(200):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)
    return False


HANGING = """#!/bin/sh
case " $* " in
*" -i "*stuck*) ;;
*) exec "{ffmpeg}" "$@" ;;
esac
trap '' TERM INT HUP
sleep 600 &
echo $$ $! >> "{pids}"
{body}
while :; do wait; sleep 1; done
"""


@pytest.mark.parametrize(
    "body",
    ["", "printf 'YUV4MPEG2 W64 H48 F25:1\\n'", "echo trouble >&2", "exec 1>&- 2>&-"],
    ids=["says nothing", "begins", "complains", "closes its pipes"],
)
def test_a_program_that_hangs_is_ended_with_its_children(tmp_path, ffmpeg, body):
    pids = tmp_path / "pids"
    program = tmp_path / "hanging-ffmpeg"
    program.write_text(HANGING.format(ffmpeg=ffmpeg, pids=pids, body=body))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    names = ["good0.mkv", "stuck1.mkv", "good2.mkv", "stuck3.mkv", "good4.mkv"]
    for index, name in enumerate(names):
        oracle.encode(tmp_path / name, oracle.noise(2, seed=index))
    table, began = pl.DataFrame({"src": names}), time.monotonic()

    found = pm.add_saliency(table, root=tmp_path, ffmpeg_bin=str(program), decode_timeout_s=2.0, workers=2)

    assert time.monotonic() - began < LONG_S
    status = found["saliency_status"].to_list()
    assert status == ["ok", "decode-failed", "ok", "decode-failed", "ok"]
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 4
    assert gone(started)


@pytest.fixture
def logging_ffmpeg(tmp_path, ffmpeg):
    """A program that notes each of its calls that decodes, and the notes."""
    log, program = tmp_path / "log", tmp_path / "logging-ffmpeg"
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" -i "*) echo "$*" >> "{log}" ;; esac\nexec "{ffmpeg}" "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    log.touch()
    return str(program), log


def test_each_clip_is_decoded_once_however_it_is_spelled(tmp_path, logging_ffmpeg, monkeypatch):
    program, log = logging_ffmpeg
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    oracle.encode(tmp_path / "a.mkv", oracle.noise(3))
    oracle.encode(tmp_path / "b.mkv", oracle.noise(3, seed=1))
    (tmp_path / "link.mkv").symlink_to("a.mkv")
    spelled = ["a.mkv", "./a.mkv", "sub/../a.mkv", str(tmp_path / "a.mkv"), ".//a.mkv", "link.mkv"]
    table = pl.DataFrame({"src": [*spelled, "b.mkv"] * 50, "width": [None, 64, 65, 0, 64, 64, 3] * 50})

    found = pm.add_saliency(table, ffmpeg_bin=program)

    assert found["saliency_status"].unique().to_list() == ["ok"]
    assert found["saliency_mean"].n_unique() == 2
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_a_lazy_plan_decodes_each_clip_once_though_it_is_asked_for_twice(tmp_path, logging_ffmpeg, engine):
    program, log = logging_ffmpeg
    oracle.encode(tmp_path / "a.mkv", oracle.noise(3))
    lazy = pm.add_saliency(pl.LazyFrame({"src": ["a.mkv"] * 3}), root=tmp_path, ffmpeg_bin=program)
    assert log.read_text() == ""

    twice = pl.concat([lazy, lazy.filter(pl.col("saliency_status") == "ok")]).collect(engine=engine)

    assert twice["saliency_status"].to_list() == ["ok"] * 6
    assert len(log.read_text().splitlines()) == 1


def test_nothing_is_decoded_for_rows_that_have_values(tmp_path, logging_ffmpeg):
    program, log = logging_ffmpeg
    oracle.encode(tmp_path / "a.mkv", oracle.noise(3))
    table = pl.DataFrame({"src": ["a.mkv"] * 2, "saliency_mean": [0.5] * 2, "saliency_var": [0.1] * 2})

    found = pm.add_saliency(table, root=tmp_path, ffmpeg_bin=program)

    assert found["saliency_status"].to_list() == ["skipped-existing"] * 2
    assert log.read_text() == ""


def test_a_clip_that_a_program_changes_while_it_reads_it_fails(tmp_path, ffmpeg):
    program = tmp_path / "meddling-ffmpeg"
    body = f'case " $* " in *" -i "*) echo >> "{tmp_path}/a.mkv" ;; esac\nexec "{ffmpeg}" "$@"'
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(3))

    assert measured(path, ffmpeg_bin=str(program)) == (
        "decode-failed",
        "changed while it was read",
        None,
        None,
    )


@pytest.mark.parametrize("body", ["echo not json", 'echo \'{"packets": [{"pts": 3}], "streams": 7}\''])
def test_an_ffprobe_that_talks_nonsense_fails_the_clip(tmp_path, ffmpeg, body):
    probe = tmp_path / "ffprobe"
    probe.write_text(f"#!/bin/sh\n{body}\n")
    probe.chmod(probe.stat().st_mode | stat.S_IXUSR)
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(3))

    status, message, *_ = measured(path, ffmpeg_bin=ffmpeg, ffprobe_bin=str(probe), frame_selection="uniform")

    assert status == "decode-failed"
    assert message
