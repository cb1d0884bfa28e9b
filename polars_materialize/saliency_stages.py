"""What measures clips, from options: checked, programs found, the model loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec
import polars as pl

from polars_materialize import warm
from polars_materialize.errors import ExtraError, OptionError, listing
from polars_materialize.joins import check_choices
from polars_materialize.names import is_pattern
from polars_materialize.options import FrameSelection, Matrix, SaliencyOptions, TemporalAggregator
from polars_materialize.stores import refuse_url

if TYPE_CHECKING:
    from polars_materialize.saliency.stage import Stage

VALUES = ("saliency_mean", "saliency_var")
"""The columns of what is measured."""

CHOICES = {
    "frame_selection": get_args(FrameSelection),
    "temporal_aggregator": get_args(TemporalAggregator),
    "matrix": get_args(Matrix),
}

SPECTRAL_RESIDUAL = "spectral_residual"
"""What the method without a network is called."""


def load_stage(options: SaliencyOptions, base_dir: Path | None, workers: int | None) -> Stage:
    """Checks options, finds programs and loads the model: what is wrong there is no clip's fault.

    Args:
        options: The options.
        base_dir: What relative paths are relative to.
        workers: How many frames are worked on at a time; else as many as Polars has threads.

    Raises:
        OptionError: If an option is not valid.
        ModelError: If the model cannot be used.
        ExtraError: If a package is not installed.
    """
    check_saliency_options(options)
    try:
        with warm.importing:
            from polars_materialize.saliency.clips import Sampling  # noqa: PLC0415 - an extra
            from polars_materialize.saliency.models import OnnxModel  # noqa: PLC0415 - an extra
            from polars_materialize.saliency.programs import find_programs  # noqa: PLC0415 - an extra
            from polars_materialize.saliency.spectral import SpectralResidual  # noqa: PLC0415 - an extra
            from polars_materialize.saliency.stage import Stage  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ExtraError.of(str(error.name), "saliency") from None
    count = pl.thread_pool_size() if workers is None else workers
    if count < 1:
        raise OptionError(f"workers: {workers}; expected at least 1", option="workers")
    path = options.model_path
    located = None if path is None else Path(path) if base_dir is None else base_dir / path
    return Stage(
        model=SpectralResidual() if located is None else OnnxModel(located, str(path), count),
        sampling=Sampling(
            options.max_frames,
            options.frame_samples,
            options.frame_selection == "uniform",
            options.max_pixels,
        ),
        aggregator=options.temporal_aggregator,
        ema_alpha=options.ema_alpha,
        timeout_s=options.decode_timeout_s,
        programs=None
        if options.ffmpeg_bin is None
        else find_programs(options.ffmpeg_bin, options.ffprobe_bin, base_dir),
        workers=count,
        by_tags=options.matrix == "as-tagged",
    )


def make_options(**given: object) -> SaliencyOptions:
    """Options as they were given from Python, of the right types.

    Raises:
        OptionError: Names the option and what was expected.
    """
    for option in ("root", "ffmpeg_bin", "ffprobe_bin", "model_path"):
        path = given[option]
        given[option] = os.fspath(path) if isinstance(path, os.PathLike) else path
    check_choices(SaliencyOptions(**given), CHOICES)  # type: ignore[arg-type] # checked next
    warm.describe(SaliencyOptions)
    try:
        return msgspec.convert(given, SaliencyOptions)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        option = place.rstrip("`")
        raise OptionError(
            f"{option}: {given.get(option)!r}; {problem[:1].lower()}{problem[1:]}", option=option
        ) from None


def check_saliency_options(options: SaliencyOptions) -> None:
    """Refuses option values that no table could make right.

    Raises:
        OptionError: Names the option and what was expected.
    """
    check_choices(options, CHOICES)
    for option, least in (
        ("max_frames", 1),
        ("frame_samples", 1),
        ("default_width", 0),
        ("default_height", 0),
        ("max_pixels", 1),
    ):
        value = getattr(options, option)
        if value < least:
            raise OptionError(f"{option}: {value}; expected at least {least}", option=option)
    if not 0 < options.ema_alpha <= 1:
        raise OptionError(
            f"ema_alpha: {options.ema_alpha!r}; expected above 0 and up to 1", option="ema_alpha"
        )
    if not 0 < options.decode_timeout_s < float("inf"):
        raise OptionError(
            f"decode_timeout_s: {options.decode_timeout_s!r}; expected seconds above 0",
            option="decode_timeout_s",
        )
    for option in ("root", "ffmpeg_bin", "ffprobe_bin", "model_path", "model_id"):
        value = getattr(options, option)
        if value is not None and (not value.strip() or "\0" in value):
            raise OptionError(f"{option}: {value!r}; expected some text", option=option)
        refuse_url(value, option)
    if options.model_path is None and options.model_id not in (None, SPECTRAL_RESIDUAL):
        raise OptionError(
            f"model_id: {options.model_id!r} without model_path; without a network the numbers are those of "
            f"{SPECTRAL_RESIDUAL!r}: name the network with model_path, or leave model_id out",
            option="model_id",
        )
    _check_programs(options)
    _check_names(options)


def _check_programs(options: SaliencyOptions) -> None:
    if options.ffprobe_bin is not None and options.ffmpeg_bin is None:
        raise OptionError(
            "ffprobe_bin: is of use only beside ffmpeg_bin; expected both or neither", option="ffprobe_bin"
        )
    if (
        options.ffmpeg_bin is not None
        and options.ffprobe_bin is None
        and options.frame_selection == "uniform"
    ):
        raise OptionError(
            "frame_selection: 'uniform' with ffmpeg_bin needs ffprobe_bin, which says when frames are shown",
            option="frame_selection",
        )


def _check_names(options: SaliencyOptions) -> None:
    """Refuses column names that could not stand side by side."""
    if not options.path_column:
        raise OptionError("path_column: ''; expected a column's name", option="path_column")
    roles = [name for name in (options.path_column, options.width_column, options.height_column) if name]
    if len(set(roles)) < len(roles):
        raise OptionError(
            f"path_column, width_column, height_column: {listing(roles)}; expected columns of their own",
            option="path_column",
        )
    taken = dict.fromkeys([*VALUES, *roles], "the results")
    for option in ("status_column", "model_id_column", "aggregator_column", "ema_alpha_column"):
        name = getattr(options, option)
        if name and (not name.strip() or name in taken or is_pattern(name)):
            raise OptionError(f"{option}: {name!r}; expected a column name of its own", option=option)
        taken[name] = option
