"""Clips measured by the workers of an executor: one clip a task, its result as plain values."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from polars_materialize import provenance, warm
from polars_materialize.errors import ModelError, WorkersError
from polars_materialize.executors import refuse_other_versions, run_all, threads_each
from polars_materialize.options import SaliencyOptions
from polars_materialize.saliency_stages import load_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from polars_materialize.saliency.clips import Clip
    from polars_materialize.saliency.stage import Result, Stage

UNEXPECTED = "unexpected "
"""How the problem of a task begins that no clip is to blame for."""

STAGES = 4
"""How many stages a worker keeps: workers of a cluster see many tables, and networks take memory."""


OF_TABLES = (
    *("path_column", "width_column", "height_column", "root", "default_width", "default_height", "overwrite"),
    *("model_id", "status_column", "model_id_column", "aggregator_column", "ema_alpha_column", "hash_clips"),
)
"""The options that no stage is made of; tables that differ in these only share one."""


@dataclass(frozen=True)
class Recipe:
    """How workers make a stage that measures as this process' own would.

    Attributes:
        options: The options, as JSON.
        base_dir: What relative paths are relative to.
        model: The SHA-256 of the network, if there is one.
        versions: The versions of what decides results.
    """

    options: bytes
    base_dir: str
    model: str | None
    versions: tuple[tuple[str, str], ...]


def divided(
    stage: Stage, options: SaliencyOptions, base_dir: Path | None, executor: Executor | None
) -> Stage:
    """The same stage; its clips are measured by an executor's workers, if there is one.

    Args:
        stage: A stage.
        options: What it was made from.
        base_dir: What relative paths are relative to.
        executor: Whose workers.
    """
    if executor is None:
        return stage
    names = [name for name in SaliencyOptions.__struct_fields__ if name not in OF_TABLES]
    only = {name: getattr(options, name) for name in names}
    recipe = Recipe(
        options=msgspec.json.encode(SaliencyOptions(**only)),
        base_dir=_here(str(base_dir or "")),
        model=getattr(stage.model, "sha256", None),
        versions=tuple(sorted(_versions(stage).items())),
    )
    return replace(stage, elsewhere=partial(_measure_all, executor, recipe))


def _versions(stage: Stage) -> dict[str, str]:
    return {**provenance.versions(), **stage.versions()}


def _here(path: str) -> str:
    """A path that is the same wherever a worker runs; not tidied up, so that links lead where they led."""
    return os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118


def _measure_all(
    executor: Executor,
    recipe: Recipe,
    clips: Sequence[Clip],
    progress: Callable[[int, int], None] | None,
) -> list[Result]:
    with warm.importing:
        from polars_materialize.saliency.clips import ClipError, Tags, file_state  # noqa: PLC0415 - an extra
        from polars_materialize.saliency.stage import Result  # noqa: PLC0415 - an extra

    results: dict[int, Result] = {}
    for index, clip in enumerate(clips):
        try:
            file_state(clip)
        except ClipError as error:  # of no use to ask a worker
            results[index] = Result(error.status, error.message)
    places = [index for index in range(len(clips)) if index not in results]
    tasks = [astuple(replace(clips[place], path=_here(clips[place].path))) for place in places]
    measure = partial(measure_clip, recipe, threads_each(executor))
    if progress is not None:
        progress(len(results), len(clips))
    with closing(run_all(executor, measure, tasks)) as outcomes:
        for number, outcome in outcomes:
            if outcome.value is not None:
                tags = Tags(**outcome.value["tags"])
                results[places[number]] = Result(**{**outcome.value, "tags": tags})
            elif str(outcome.problem).startswith(UNEXPECTED):
                raise WorkersError(f"{clips[places[number]].written}: {outcome.problem}")
            else:  # its worker died, or none is left
                results[places[number]] = Result("decode-failed", outcome.problem)
            if progress is not None:
                progress(len(results), len(clips))
    return [results[index] for index in range(len(clips))]


def measure_clip(recipe: Recipe, threads: int, clip: tuple[Any, ...]) -> dict[str, Any]:
    """Measures one clip; what a worker does.

    Args:
        recipe: How to make the stage; it is kept for the next clip.
        threads: How many frames are worked on at a time.
        clip: The fields of a `Clip`.

    Returns:
        The fields of its `Result`.
    """
    with warm.importing:
        from polars_materialize.saliency.clips import Clip  # noqa: PLC0415 - an extra

    stage = replace(_stages.get(recipe), workers=threads)
    return asdict(stage.measure_now([Clip(*clip)])[0])


class _Stages:
    """The stages of this process, each made once, for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Recipe, Stage] = {}

    def get(self, recipe: Recipe) -> Stage:
        with self._lock:
            stage = self._known.pop(recipe, None) or _make(recipe)
            self._known[recipe] = stage  # the latest is the last
            if len(self._known) > STAGES:
                del self._known[next(iter(self._known))]
            return stage


_stages = _Stages()


def _make(recipe: Recipe) -> Stage:
    warm.describe(SaliencyOptions)
    options = msgspec.json.decode(recipe.options, type=SaliencyOptions)
    stage = load_stage(options, Path(recipe.base_dir), None)
    refuse_other_versions(dict(recipe.versions), _versions(stage))
    if getattr(stage.model, "sha256", None) != recipe.model:
        path = options.model_path
        raise ModelError(f"{path}: is another network where a worker is than here", path=path)
    return stage
