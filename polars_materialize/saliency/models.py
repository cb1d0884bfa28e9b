"""Networks: a frame in, its saliency mask out."""

from __future__ import annotations

import hashlib
import math
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from polars_materialize import warm
from polars_materialize.errors import ExtraError, ModelError, first_line
from polars_materialize.saliency.clips import ClipError
from polars_materialize.saliency.tensors import to_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from polars_materialize.saliency.clips import Planes

MULTIPLES = (1, 2, 4, 8, 12, 14, 16, 28, 32, 64, 128)
"""What heights and widths may have to be multiples of: networks halve and double, or cut patches."""

EXTERNAL_DATA = b"\n\x08location\x12"
"""How an ONNX file says that weights are in another file: an entry with the key `location`."""

BEYOND = 1e-3
SHARE_BEYOND = 1e-3
"""How far beyond 0..1 a value of a mask may be, and the share of values that may be further."""

WIDE_CORES = 4
"""How many cores large frames are lent, if there are as many."""

SHARE = 1920 * 1088
"""How many pixels of a frame one core is lent for. Larger frames are lent more cores, and so fewer of them
are in memory at a time: a network holds some 400 bytes a pixel."""


class Model(Protocol):
    """What makes a mask of a frame; used from several threads at once."""

    def mask(self, planes: Planes) -> npt.NDArray[np.float32]:
        """The saliency of a frame, `[H, W]`, in 0..1 or a little beyond."""


class OnnxModel:
    """An ONNX network that takes one frame a call, `[1, 3, H, W]`, and gives its mask.

    One frame runs on one core, several side by side, which is quicker than one on all cores (Conv layers do
    not divide evenly), and gives the same bits whatever the number of cores.
    """

    def __init__(self, path: Path, written: str, workers: int) -> None:
        """Loads a network, and finds out what heights and widths it takes.

        Args:
            path: The file.
            written: Its path as the user wrote it.
            workers: How many cores there are to run on.

        Raises:
            ModelError: If it is not a network for pictures.
        """
        self._content = _read(path, written)
        self.sha256 = hashlib.sha256(self._content).hexdigest()
        """What its file holds."""
        self._cores = _Cores(workers)
        self._wide_cores = min(workers, WIDE_CORES)
        self._session = _session(self._content, written, threads=1)
        self._wide: Any = None
        self._wide_lock = threading.Lock()
        self._input, self._fixed = _input(self._session, written)
        self._multiple = self._find_multiple(written)

    def mask(self, planes: Planes) -> npt.NDArray[np.float32]:
        """The saliency of a frame; it is padded to what the network takes, and its mask cropped."""
        width, height = planes.size
        tall, wide = self._padded(height, width)
        cores = 1 if height * width <= SHARE else self._wide_cores
        with self._cores.lend(cores):
            session = self._session if cores == 1 else self._wide_session()
            output = self._run(session, to_tensor(planes, tall, wide))
        if output.shape[-2:] != (tall, wide) or output.size != tall * wide:
            raise ClipError("model-failed", _wrong_shape(output, tall, wide))
        mask = output.reshape(tall, wide)[:height, :width].astype(np.float32, copy=False)
        _refuse_no_mask(mask)
        return mask

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        padded = []
        for size, fixed, axis in zip((height, width), self._fixed, ("height", "width"), strict=True):
            if fixed is None:
                padded.append(-(-size // self._multiple) * self._multiple)
            elif size > fixed:
                raise ClipError("model-failed", f"takes a {axis} of {fixed} only; the clip's is {size}")
            else:
                padded.append(fixed)
        return padded[0], padded[1]

    def _run(self, session: Any, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        try:
            return np.asarray(session.run(None, {self._input: tensor})[0])
        except Exception as error:  # noqa: BLE001 - onnxruntime's share no base of their own
            _refuse_own(error)
            raise ClipError("model-failed", first_line(error)) from None

    def _wide_session(self) -> Any:
        """The same network for frames that are lent several cores."""
        with self._wide_lock:
            if self._wide is None:
                self._wide = _session(self._content, "", threads=self._wide_cores)
        return self._wide

    def _find_multiple(self, written: str) -> int:
        """The least that heights and widths have to be a multiple of, found by trying small pictures.

        An ONNX file does not say it. A network that takes no small picture at all may want larger ones.

        Raises:
            ModelError: If it takes none of them.
        """
        reason = None
        for least in (64, 256):
            for multiple in MULTIPLES:
                # Odd multiples, or a picture could fit a larger multiple by chance.
                odd = -(-least // multiple) | 1
                sizes = ((odd * multiple, (odd + 2) * multiple), ((odd + 2) * multiple, odd * multiple))
                reason = next(filter(None, (self._refusal(*size) for size in sizes)), None)
                if reason is None:
                    return multiple
        raise ModelError(f"{written}: takes no picture of those tried: {reason}", path=written)

    def _refusal(self, height: int, width: int) -> str | None:
        """Why the network does not take a picture, if it does not."""
        height, width = self._fixed[0] or height, self._fixed[1] or width
        try:
            output = self._run(self._session, np.zeros((1, 3, height, width), np.float32))
        except ClipError as error:
            return error.message
        if output.shape[-2:] == (height, width) and output.size == height * width:
            return None
        return _wrong_shape(output, height, width)


def _refuse_no_mask(mask: npt.NDArray[np.float32]) -> None:
    """Refuses values that are no shares: logits, or 0 to 255. A little beyond 0..1 is arithmetic.

    Raises:
        ClipError: Names the range.
    """
    least, most = float(mask.min()), float(mask.max())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ClipError("model-failed", "gives a mask with values that are not finite")
    if least >= -BEYOND and most <= 1 + BEYOND:
        return
    share = np.count_nonzero((mask < -BEYOND) | (mask > 1 + BEYOND)) / mask.size
    if share > SHARE_BEYOND:
        raise ClipError(
            "model-failed",
            f"gives a mask from {least:g} to {most:g}, with {share:.1%} of its values outside 0..1; "
            "expected a network that ends in a sigmoid or the like",
        )


def _wrong_shape(output: npt.NDArray[Any], height: int, width: int) -> str:
    shape = "x".join(map(str, output.shape))
    return f"gives {shape} for a frame of 1x3x{height}x{width}"


def _read(path: Path, written: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{written}: cannot be read: {error.strerror}", path=written) from None
    if EXTERNAL_DATA in content:
        # onnxruntime would look for them in the working directory, whatever that is.
        raise ModelError(
            f"{written}: keeps weights in other files; expected a network in one file, with its weights",
            path=written,
        )
    return content


def _session(content: bytes, written: str, *, threads: int) -> Any:
    try:
        with warm.importing:
            import onnxruntime  # noqa: PLC0415 - slow to import; the method without weights does without
    except ImportError:
        raise ExtraError.of("onnxruntime", "saliency") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Patterns are planned for one shape and kept: clips of many sizes would each keep theirs (measured: 4K
    # frames take 3.3 GB instead of 5.7, at the same speed).
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's share no base of their own
        _refuse_own(error)
        raise ModelError(f"{written}: not an ONNX network: {first_line(error)}", path=written) from None


def _refuse_own(error: Exception) -> None:
    """Raises an error again that is not onnxruntime's; what these share is the module that they are of.

    Some of its errors are a plain `RuntimeError`, which nothing else raises here.
    """
    if not (isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")):
        raise error


def _input(session: Any, written: str) -> tuple[str, tuple[int | None, int | None]]:
    """The name of a network's input, and its height and width where they are fixed."""
    inputs = session.get_inputs()
    found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
    expected = "expected one input tensor(float) [1, 3, H, W]"
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise ModelError(f"{written}: takes {found}; {expected}", path=written)
    batch, channels, height, width = inputs[0].shape
    if (isinstance(batch, int) and batch != 1) or (isinstance(channels, int) and channels != 3):
        raise ModelError(f"{written}: takes {found}; {expected}", path=written)
    gives = session.get_outputs()[0].type
    if gives not in ("tensor(float)", "tensor(double)", "tensor(float16)"):
        raise ModelError(f"{written}: gives {gives}; expected a mask of floats in 0..1", path=written)
    fixed = (height if isinstance(height, int) else None, width if isinstance(width, int) else None)
    return inputs[0].name, fixed


class _Cores:
    """Lends cores to frames, never more than there are; a frame that needs several waits for them."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._changed = threading.Condition()

    @contextmanager
    def lend(self, cores: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= cores)
            self._free -= cores
        try:
            yield
        finally:
            with self._changed:
                self._free += cores
                self._changed.notify_all()
