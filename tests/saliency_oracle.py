"""Saliency in plain NumPy, one step at a time, and the clips and networks that it is compared on.

The oracle shares no code with the package, so an error of one is not an error of the other. Clips and
networks are made here and now: nothing is downloaded, and nothing is checked in.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# --- what saliency has to be --------------------------------------------------------------------------


KR_KB = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114), "bt2020": (0.2627, 0.0593)}
"""What red and blue give to luma, by ITU-R BT.709, BT.601 and BT.2020."""


def rgb(y, u, v, matrix="bt709"):
    """A frame of limited range as RGB in 0..1, `[H, W, 3]`; chroma is repeated 2 x 2."""
    kr, kb = KR_KB[matrix]
    height, width = y.shape
    luma = (y.astype(float) - 16) / 219
    cb, cr = (
        ((plane.astype(float) - 128) / 224).repeat(2, 0).repeat(2, 1)[:height, :width] for plane in (u, v)
    )
    by_cr, by_cb, kg = 2 * (1 - kr), 2 * (1 - kb), 1 - kr - kb
    # The standards print four decimals, and so is it done.
    red = luma + round(by_cr, 4) * cr
    blue = luma + round(by_cb, 4) * cb
    green = luma - round(kb * by_cb / kg, 4) * cb - round(kr * by_cr / kg, 4) * cr
    return np.clip(np.stack([red, green, blue], 2), 0, 1)


def limited(planes):
    """Planes of full range as limited range, each value rounded to the nearest."""
    y, u, v = (plane.astype(float) for plane in planes)
    found = (16 + y * 219 / 255, 128 + (u - 128) * 224 / 255, 128 + (v - 128) * 224 / 255)
    return tuple(np.floor(plane + 0.5).astype(np.uint8) for plane in found)


def tensor(frame, multiple=1, matrix="bt709"):
    """A frame as `[3, H, W]`, normalised; its last row and column are repeated up to a multiple."""
    normal = (rgb(*frame, matrix) - np.array(MEAN)) / np.array(STD)
    height, width = normal.shape[:2]
    down, right = (-height % multiple, -width % multiple)
    return np.pad(normal, [(0, down), (0, right), (0, 0)], mode="edge").transpose(2, 0, 1)


def reduce(masks, lumas, aggregator="mean", alpha=0.6):
    """Masks of frames as one."""
    masks = [np.asarray(mask, float) for mask in masks]
    if aggregator == "max":
        return np.max(masks, axis=0)
    if aggregator == "ema":
        average = masks[0]
        for mask in masks[1:]:
            average = alpha * mask + (1 - alpha) * average
        return average
    weights = [1.0] * len(masks)
    if aggregator == "motion-weighted":
        for index in range(1, len(masks)):
            change = np.abs(lumas[index].astype(float) - lumas[index - 1].astype(float)).mean() / 255
            weights[index] = max(change, 1e-6)
    return sum(weight * mask for weight, mask in zip(weights, masks, strict=True)) / sum(weights)


def moments(mask):
    """The mean and the population variance of a mask, clipped to 0..1."""
    values = [min(max(float(value), 0.0), 1.0) for value in np.ravel(mask)]
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / len(values)


def saliency(frames, mask, aggregator="mean", alpha=0.6):
    """The mean and the variance of frames, given what makes the mask of one."""
    return moments(reduce([mask(frame) for frame in frames], [y for y, _, _ in frames], aggregator, alpha))


def first(count, max_frames=8, frame_samples=8):
    """Which frames `first` takes: the first of each of equal parts."""
    considered = min(count, max_frames)
    parts = min(considered, frame_samples)
    return [math.floor(part * considered / parts) for part in range(parts)]


def uniform(count, max_frames=8, frame_samples=8):
    """Which frames of a clip of constant frame rate `uniform` takes, each once."""
    taken = []
    for moment in first(max_frames, max_frames, frame_samples):
        shown = moment * count // max_frames
        if shown not in taken:
            taken.append(shown)
    return taken


def spectral_map(picture, *, square_first=True):
    """The spectral residual of a 64 x 64 picture; OpenCV smooths before it squares."""
    spectrum = np.fft.fft2(picture)
    log = np.log(np.abs(spectrum))
    residual = log - smooth(log, np.ones((3, 3)) / 9)
    back = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum))))
    line = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 8.0**2))
    gauss = np.outer(line, line) / line.sum() ** 2
    found = smooth(back**2, gauss) if square_first else smooth(back, gauss) ** 2
    return found / found.max()


def smooth(picture, kernel):
    """A filter, the slow way; the border is mirrored about its outermost pixels."""
    radius = len(kernel) // 2
    padded = np.pad(picture, radius, mode="reflect")
    height, width = picture.shape
    out = np.zeros_like(picture)
    for row in range(len(kernel)):
        for column in range(len(kernel)):
            out += kernel[row, column] * padded[row : row + height, column : column + width]
    return out


# --- networks -----------------------------------------------------------------------------------------

WEIGHTS = np.array([0.105, 0.07, -0.05])
BIAS = 0.5
"""Of any picture they make values in 0..1."""


def pixel_mask(frame, matrix="bt709"):
    """What `pixel_network` gives."""
    return np.tensordot(WEIGHTS, tensor(frame, matrix=matrix), 1) + BIAS


def block_mask(frame):
    """What `block_network` gives."""
    height, width = frame[0].shape
    plain = np.tensordot(WEIGHTS, tensor(frame, 8), 1)
    coarse = plain
    for pool in (np.mean, np.max, np.max):
        tall, wide = coarse.shape
        coarse = pool(coarse.reshape(tall // 2, 2, wide // 2, 2), axis=(1, 3))
    mixed = 0.7 * plain + 1.3 * coarse.repeat(8, 0).repeat(8, 1) + BIAS
    return (1 / (1 + np.exp(-mixed)))[:height, :width]


def save(path, nodes, inputs, outputs, constants=()):
    """Writes a network."""
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def value(name, shape, kind=TensorProto.FLOAT):
    """An input or an output of a network."""
    return helper.make_tensor_value_info(name, kind, shape)


PICTURE = (1, 3, "H", "W")
MASK = (1, 1, "H", "W")


def pixel_network(path, scale=1.0, shape=PICTURE):
    """A network that takes any size, or `shape`: a weighted sum of each pixel."""
    constants = {
        "weights": (scale * WEIGHTS).astype(np.float32).reshape(1, 3, 1, 1),
        "bias": np.float32([BIAS]),
    }
    nodes = [helper.make_node("Conv", ["picture", "weights", "bias"], ["mask"])]
    return save(
        path, nodes, [value("picture", shape)], [value("mask", (1, 1, shape[2], shape[3]))], constants
    )


def block_network(path):
    """A network that takes multiples of 8 only: it halves three times, grows by 8, and joins both sizes."""
    constants = {
        "weights": WEIGHTS.astype(np.float32).reshape(1, 3, 1, 1),
        "mix": np.float32([0.7, 1.3]).reshape(1, 2, 1, 1),
        "bias": np.float32([BIAS]),
        "scales": np.float32([1, 1, 8, 8]),
    }
    half = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["a frame", "weights"], ["plain"]),
        helper.make_node("AveragePool", ["plain"], ["half"], **half),
        helper.make_node("MaxPool", ["half"], ["quarter"], **half),
        helper.make_node("MaxPool", ["quarter"], ["eighth"], **half),
        helper.make_node(
            "Resize",
            ["eighth", "", "scales"],
            ["coarse"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Concat", ["plain", "coarse"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "mix", "bias"], ["mixed"]),
        helper.make_node("Sigmoid", ["mixed"], ["mask"]),
    ]
    return save(path, nodes, [value("a frame", PICTURE)], [value("mask", MASK)], constants)


def slow_network(path):
    """A network that takes about a second for a frame of 512 x 512."""
    random = np.random.default_rng(1)
    constants = {
        "first": random.normal(size=(32, 3, 9, 9)).astype(np.float32) / 100,
        "second": random.normal(size=(32, 32, 9, 9)).astype(np.float32) / 100,
        "third": random.normal(size=(1, 32, 1, 1)).astype(np.float32) / 100,
    }
    nodes = [
        helper.make_node("Conv", ["picture", "first"], ["a"], pads=[4, 4, 4, 4]),
        helper.make_node("Conv", ["a", "second"], ["b"], pads=[4, 4, 4, 4]),
        helper.make_node("Conv", ["b", "third"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["mask"]),
    ]
    return save(path, nodes, [value("picture", PICTURE)], [value("mask", MASK)], constants)


def one_node_network(path, kind, outputs=MASK, inputs=PICTURE, dtype=TensorProto.FLOAT, **attributes):
    """A network of a single node."""
    node = helper.make_node(kind, ["picture"], ["mask"], **attributes)
    return save(path, [node], [value("picture", inputs, dtype)], [value("mask", outputs, dtype)])


# --- clips --------------------------------------------------------------------------------------------


def noise(count, width=64, height=48, seed=0):
    """Frames of limited range whose every pixel is random."""
    random = np.random.default_rng(seed)
    across, down = (width + 1) // 2, (height + 1) // 2
    return [
        (
            random.integers(16, 236, (height, width), dtype=np.uint8),
            random.integers(16, 241, (down, across), dtype=np.uint8),
            random.integers(16, 241, (down, across), dtype=np.uint8),
        )
        for _ in range(count)
    ]


def gradient(count, width=64, height=48):
    """Frames of smooth colours that move, unlike in each corner: codecs and scalers hardly change them."""
    frames = []
    for index in range(count):
        down, across = np.mgrid[0:height, 0:width]
        y = 40 + 120 * across / width + 40 * down / height + 3 * index
        down, across = np.mgrid[0 : (height + 1) // 2, 0 : (width + 1) // 2]
        u = 90 + 80 * across * 2 / width + index
        v = 160 - 70 * down * 2 / height + index
        frames.append(tuple(np.round(plane).astype(np.uint8) for plane in (y, u, v)))
    return frames


def numbered(count, width=64, height=48):
    """Frames that hold their number: its tens in the luma of the left half, its ones in the right."""
    frames = []
    for index in range(count):
        y = np.full((height, width), 24 + 8 * (index % 24), np.uint8)
        y[:, : width // 2] = 24 + 8 * (index // 24)
        grey = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
        frames.append((y, grey, grey))
    return frames


def number(y):
    """The number that a luma plane holds."""
    half = y.shape[1] // 2
    left, right = y[:, : half - 4].mean(), y[:, half + 4 :].mean()
    return 24 * round((left - 24) / 8) + round((right - 24) / 8)


def encode(
    path,
    frames,
    *,
    codec="ffv1",
    pix_fmt="yuv420p",
    options=None,
    rate=25,
    rotation=0,
    times=None,
    form=None,
    full=False,
):
    """Writes a clip; without a codec that says otherwise it holds the very planes of `frames`.

    `times` are the frames' own, in units of 1 / `rate`.
    """
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0][0].shape[:2]
        stream.pix_fmt = pix_fmt
        if full:
            stream.codec_context.color_range = 2
        if rotation:
            stream.set_display_rotation(rotation)
        for index, planes in enumerate(frames):
            frame = fill(av.VideoFrame(stream.width, stream.height, pix_fmt), planes)
            if full:
                frame.color_range = 2
            frame.pts = index if times is None else times[index]
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def fill(frame, planes):
    """Fills a frame with planes: lines in memory are longer than those of the picture."""
    for memory, plane in zip(frame.planes, planes, strict=True):
        lines = np.ascontiguousarray(plane).reshape(len(plane), -1).view(np.uint8)
        buffer = np.zeros((memory.height, memory.line_size), np.uint8)
        buffer[:, : lines.shape[1]] = lines
        memory.update(buffer.tobytes())
    return frame


def plane_of(memory, line_size, width, height):
    """The picture in a plane's memory, whose lines are longer than those of the picture."""
    return np.frombuffer(memory, np.uint8).reshape(height, line_size)[:, :width].copy()


def silence():
    """A piece of sound."""
    frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
    frame.sample_rate = 8000
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return frame


@functools.cache
def noise_clip(count, width, height, seed):
    """The bytes of a clip of noise, which is encoded once for all tests that have it."""
    with TemporaryDirectory() as folder:
        return encode(Path(folder) / "noise.mkv", noise(count, width, height, seed)).read_bytes()


def raw(path, frames):
    """Writes raw video."""
    path.write_bytes(b"".join(plane.tobytes() for planes in frames for plane in planes))
    return path
