"""The stage: distinct clips in, a result for each out.

Every clip in flight has a thread that decodes it and hands its frames, one by one, to a pool that runs the
model: decoding goes on beside inference, frames of one clip or of several fill all cores, and there are never
many more frames in memory than are being worked on. The masks of a clip are reduced in the order of its
frames, so results do not depend on how many workers there were.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from polars_materialize import warm
from polars_materialize.errors import ExtraError
from polars_materialize.saliency.clips import NO_TAGS, ClipError, Tags, changed_words, file_state
from polars_materialize.saliency.pixels import known_matrix
from polars_materialize.saliency.raw import read_raw
from polars_materialize.saliency.reducers import moments, reducer
from polars_materialize.saliency.spectral import SpectralResidual

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from polars_materialize.options import TemporalAggregator
    from polars_materialize.saliency.clips import Clip, Planes, Sampling
    from polars_materialize.saliency.models import Model
    from polars_materialize.saliency.programs import Programs

    Landed = queue.SimpleQueue[tuple[int, "Result | BaseException"]]
    Measure = Callable[[Sequence[Clip], Callable[[int, int], None] | None], list["Result"]]

TICK_S = 0.2
"""How often clips in flight are looked after, in seconds."""

GRACE_S = 2.0
"""How long past its time a decoder may take to notice it, before it is left behind."""


@dataclass(frozen=True)
class Result:
    """What became of one clip.

    Attributes:
        status: `ok`, or why there is no result.
        message: The reason, in the words of what failed.
        mean: The mean of its mask; `saliency_mean`.
        var: The population variance; `saliency_var`.
        frames: How many frames were measured.
        size: Its width and height as shown.
        stored: The same before a rotation that it asks for.
        tags: What it says of its own pixels.
    """

    status: str
    message: str | None = None
    mean: float | None = None
    var: float | None = None
    frames: int = 0
    size: tuple[int, int] | None = None
    stored: tuple[int, int] | None = None
    tags: Tags = NO_TAGS


class _Known:
    """Results of clips, by what identifies them; one run at a time adds to them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.results: dict[object, Result] = {}


@dataclass(frozen=True)
class Stage:
    """How clips are measured.

    Attributes:
        model: What makes a mask of a frame.
        sampling: Which frames of a clip.
        aggregator: How their masks become one.
        ema_alpha: What the current frame weighs in `ema`.
        timeout_s: How long decoding one clip may take, in seconds.
        programs: What decodes containers, if not PyAV.
        workers: How many frames are worked on at a time.
        elsewhere: What measures clips, if other processes do; as `measure_now`.
        by_tags: Whether RGB is made by the matrix that a clip is tagged with.
    """

    model: Model
    sampling: Sampling
    aggregator: TemporalAggregator
    ema_alpha: float
    timeout_s: float
    programs: Programs | None
    workers: int
    elsewhere: Measure | None = None
    by_tags: bool = False
    _known: _Known = field(default_factory=_Known, repr=False, compare=False)

    def run(self, clips: Sequence[Clip], progress: Callable[[int, int], None] | None = None) -> list[Result]:
        """Measures clips; a clip that fails says so in its result.

        A clip that was measured before, and has not changed since, is not decoded again: a lazy plan may ask
        for the same clips several times, even while it is collected once.

        Args:
            clips: The clips, each of which is decoded once.
            progress: Called with the number of clips done and of all, now and then.

        Raises:
            ExtraError: If a clip needs PyAV and it is not installed.
        """
        measure = self.elsewhere or self.measure_now
        with self._known.lock:
            states = [_identity(clip) for clip in clips]
            new = [place for place, state in enumerate(states) if state not in self._known.results]
            found = dict(zip(new, measure([clips[place] for place in new], progress), strict=True))
            for place, result in found.items():
                if result.status == "ok":
                    self._known.results[states[place]] = result
            return [found.get(place) or self._known.results[state] for place, state in enumerate(states)]

    def measure_now(
        self, clips: Sequence[Clip], progress: Callable[[int, int], None] | None = None
    ) -> list[Result]:
        """Measures clips, whatever is known of them; several threads may do so.

        Args:
            clips: The clips, each of which is decoded once.
            progress: As for `run`.

        Raises:
            ExtraError: If a clip needs PyAV and it is not installed.
            Exception: Whatever else goes wrong that no clip is to blame for.
        """
        with self._decoder(clips):
            return self._run(clips, progress)

    def _decoder(self, clips: Sequence[Clip]) -> AbstractContextManager[None]:
        """What has to be in force while clips are decoded."""
        if self.programs is not None or all(clip.is_raw for clip in clips):
            return nullcontext()
        try:
            with warm.importing:
                from polars_materialize.saliency.containers import listening  # noqa: PLC0415 - needs PyAV
        except ModuleNotFoundError:
            raise ExtraError.of("av", "saliency") from None
        return listening()

    def _run(self, clips: Sequence[Clip], progress: Callable[[int, int], None] | None) -> list[Result]:
        slots = threading.Semaphore(2 * self.workers)  # each a frame in memory
        results: dict[int, Result] = {}
        waiting = deque(enumerate(clips))
        flying: dict[int, _Flight] = {}
        landed: Landed = queue.SimpleQueue()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="saliency") as pool:
            try:
                while waiting or flying:
                    while waiting and len(flying) < self.workers + 1:
                        index, clip = waiting.popleft()
                        flying[index] = _Flight(self, clip, pool, _Slots(slots))
                        flying[index].start(index, landed)
                    with suppress(queue.Empty):
                        index, result = landed.get(timeout=TICK_S)
                        if isinstance(result, BaseException):
                            raise result  # no clip is to blame
                        if index in flying:
                            results[index] = result
                            del flying[index]
                    for index, flight in list(flying.items()):
                        if flight.watch.hangs:
                            results[index] = Result("decode-failed", flight.watch.too_long)
                            flying.pop(index).leave()
                    if progress is not None:
                        progress(len(results), len(clips))
            finally:
                for flight in flying.values():
                    flight.watch.cancel()
                for flight in flying.values():
                    flight.thread.join(GRACE_S)
                pool.shutdown(wait=True, cancel_futures=True)
        return [results[index] for index in range(len(clips))]

    def versions(self) -> dict[str, str]:
        """The versions of what decides results."""
        packages = ["numpy"]
        packages += [] if isinstance(self.model, SpectralResidual) else ["onnxruntime"]
        packages += [] if self.programs is not None else ["av"]
        found = {package: version(package) for package in packages if find_spec(package) is not None}
        return found if self.programs is None else {**found, "ffmpeg": self.programs.version}

    def measure(self, clip: Clip, pool: ThreadPoolExecutor, slots: _Slots, watch: Watch) -> Result:
        """Measures one clip.

        Args:
            clip: The clip.
            pool: What works on its frames.
            slots: One for each of its frames that is in memory.
            watch: Its time.

        Raises:
            ClipError: If it has no result.
        """
        state = file_state(clip)
        if clip.is_raw and not (clip.width > 0 and clip.height > 0):
            raise ClipError(
                "missing-geometry",
                "raw video needs width and height in whole pixels, in its row or else by default",
            )
        masks = reducer(self.aggregator, self.ema_alpha)
        ahead: deque[tuple[Planes, Future[Any]]] = deque()
        frames, size, stored, tags = 0, None, None, NO_TAGS
        decoded = watch.over(self._frames(clip, watch.check))

        def reduce_next() -> None:
            planes, mask = ahead[0]
            masks.add(mask.result(), planes.y)
            ahead.popleft()
            slots.give_back()

        def next_frame() -> Planes | None:
            while not slots.take(0 if ahead else TICK_S):
                watch.check()
                if ahead:
                    reduce_next()
            planes = None
            try:
                planes = next(decoded, None)
            finally:
                if planes is None:
                    slots.give_back()
            return planes

        try:
            while (planes := next_frame()) is not None:
                if self.by_tags:
                    planes = replace(planes, matrix=known_matrix(planes.tags))
                tags = tags if frames else planes.tags
                ahead.append((planes, pool.submit(self.model.mask, planes)))
                frames += 1
                if size is not None and planes.size != size:
                    raise ClipError("decode-failed", changed_words(size, planes.size, frames))
                size, stored = planes.size, planes.stored
                if len(ahead) > self.workers:
                    reduce_next()
            while ahead:
                reduce_next()
        finally:
            decoded.close()
            for _, mask in ahead:
                mask.cancel()
                slots.give_back()
        if not frames:
            raise ClipError("decode-failed", "no frame could be decoded")
        if file_state(clip) != state:
            raise ClipError("decode-failed", "changed while it was read")
        mean, var = moments(masks.mask())
        return Result("ok", None, mean, var, frames, size, stored, tags)

    def _frames(self, clip: Clip, check: Callable[[], None]) -> Iterator[Planes]:
        if clip.is_raw:
            return read_raw(clip, self.sampling)
        if self.programs is not None:
            with warm.importing:
                from polars_materialize.saliency.programs import read_program  # noqa: PLC0415 - used when given

            return read_program(clip, self.sampling, self.programs, check)
        with warm.importing:
            from polars_materialize.saliency.containers import read_container  # noqa: PLC0415 - needs PyAV

        return read_container(clip, self.sampling, check)


def _identity(clip: Clip) -> object:
    """What is the same as long as a clip would give the same result."""
    try:
        state: object = file_state(clip)
    except ClipError as error:
        state = error.status
    return clip.path, clip.width, clip.height, state


class _Slots:
    """A clip's share of the frames that may be in memory, of all clips together."""

    def __init__(self, free: threading.Semaphore) -> None:
        self._free = free
        self._held = 0
        self._lock = threading.Lock()

    def take(self, timeout: float) -> bool:
        """Takes a slot, if there is one in time."""
        if not self._free.acquire(timeout=timeout):
            return False
        with self._lock:
            self._held += 1
        return True

    def give_back(self, count: int | None = 1) -> None:
        """Gives slots back, by default one; none that were given back already."""
        with self._lock:
            given = self._held if count is None else min(count, self._held)
            self._held -= given
        if given:
            self._free.release(given)


class _Flight:
    """A clip in flight: its thread, which ends with the process even if a decoder hangs in it."""

    def __init__(self, stage: Stage, clip: Clip, pool: ThreadPoolExecutor, slots: _Slots) -> None:
        self.watch = Watch(stage.timeout_s)
        self._slots = slots
        self._measure = partial(stage.measure, clip, pool, slots, self.watch)

    def start(self, index: int, landed: Landed) -> None:
        """Measures the clip in a thread, which puts its index and its result, or an error, into a queue."""
        self.thread = threading.Thread(
            target=self._fly, args=(index, landed), daemon=True, name=f"clip-{index}"
        )
        self.thread.start()

    def leave(self) -> None:
        """Leaves the clip behind: its decoder hangs."""
        self.watch.cancel()
        self._slots.give_back(None)

    def _fly(self, index: int, landed: Landed) -> None:
        try:
            result: Result | BaseException = self._measure()
        except ClipError as error:
            result = Result(error.status, error.message)
        except BaseException as error:  # noqa: BLE001 - it ends the run: the thread that waits raises it
            result = error
        landed.put((index, result))


class Watch:
    """How long decoding a clip has taken, waiting for inference aside."""

    def __init__(self, timeout_s: float) -> None:
        """Begins with no time taken."""
        self._timeout_s = timeout_s
        self._taken_s = 0.0
        self._since: float | None = None
        self._cancelled = False
        self.too_long = f"decoding took longer than decode_timeout_s {timeout_s:g}"

    def over(self, frames: Iterator[Planes]) -> Generator[Planes, None, None]:
        """The same frames, with the time taken that each of them takes."""
        try:
            while True:
                self._since = time.monotonic()
                try:
                    planes = next(frames, None)
                finally:
                    taken, self._since = self._seconds(), None
                    self._taken_s = taken
                if planes is None:
                    return
                yield planes
        finally:
            if hasattr(frames, "close"):
                frames.close()

    def check(self) -> None:
        """Ends a decoder that has taken too long, or whose result nobody waits for any more.

        Raises:
            ClipError: Then.
        """
        if self._cancelled:
            raise ClipError("decode-failed", "interrupted")
        if self._seconds() > self._timeout_s:
            raise ClipError("decode-failed", self.too_long)

    @property
    def hangs(self) -> bool:
        """Whether a decoder has not noticed that its time is over."""
        return self._seconds() > self._timeout_s + GRACE_S

    def cancel(self) -> None:
        """Says that nobody waits for the clip any more."""
        self._cancelled = True

    def _seconds(self) -> float:
        since = self._since
        return self._taken_s + (0.0 if since is None else time.monotonic() - since)
