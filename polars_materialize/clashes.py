"""What the tables of a manifest would overwrite of one another, and of what they read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from polars_materialize.errors import ManifestError, MaterializeError
from polars_materialize.paths import Readers, plain_part
from polars_materialize.stores import is_url, parse, real, refuse_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from polars_materialize.manifests import Manifest

Table = TypeVar("Table", bound=msgspec.Struct)


@dataclass(frozen=True)
class Paths:
    """The paths of one table of a manifest: which it reads and which it writes, by field.

    Attributes:
        inputs: Paths, globs and folders to read.
        outputs: Files and folders to write.
        folders: The fields of `outputs` that are folders, which are replaced with all that is in them.
    """

    inputs: list[tuple[str, str]]
    outputs: list[tuple[str, str]]
    folders: Sequence[str] = ()


def check_paths(
    manifest: Manifest[Table],
    paths_of: Callable[[Table], Paths],
    reports: Sequence[tuple[str, str]],
) -> None:
    """Refuses outputs that overwrite an input, the manifest, or one another.

    Args:
        manifest: The manifest.
        paths_of: Gives a table's paths.
        reports: The run's own outputs: what to call each, and its path.

    Raises:
        ManifestError: Names both places.
    """
    taken = {os.path.realpath(manifest.path): "the manifest"}
    outputs: list[tuple[str, Path | None, str]] = [(place, None, path) for place, path in reports]
    inputs: list[tuple[str, str]] = []
    folders: list[tuple[str, str]] = []
    for index, table in enumerate(manifest.tables):
        paths = paths_of(table)
        place = f"$.tables[{index}]"
        outputs += [(f"{place}.{field}", manifest.base_dir, path) for field, path in paths.outputs]
        inputs += [(f"{place}.{field}", path) for field, path in paths.inputs]
        folders += [(f"{place}.{field}", path) for field, path in paths.outputs if field in paths.folders]
    _check_urls(manifest, inputs, [(place, path) for place, _, path in outputs])
    _refuse_inside(
        manifest,
        folders,
        [
            *((place, path, Path(real(folder, path))) for place, folder, path in outputs if not is_url(path)),
            *(
                (place, path, manifest.base_dir / plain_part(path))
                for place, path in inputs
                if not is_url(path)
            ),
        ],
    )
    readers = Readers(manifest.base_dir, inputs)
    for place, folder, path in outputs:
        found = real(folder, path)
        if found in taken:
            raise ManifestError(manifest.written, f"is also {taken[found]}: {path!r}", place=place)
        taken[found] = place
        other = readers.of(found)
        if other is not None:
            raise ManifestError(manifest.written, f"is also an input, {other}: {path!r}", place=place)


def _refuse_inside(
    manifest: Manifest[Table], folders: Sequence[tuple[str, str]], others: Sequence[tuple[str, str, Path]]
) -> None:
    """Refuses what lies in a folder that a table writes, and so would be replaced with it."""
    places = {real(manifest.base_dir, path): place for place, path in folders}
    for place, path, where in others if places else ():
        for folder in Path(os.path.realpath(where)).parents:
            inside = places.get(str(folder))
            if inside is not None:
                problem = f"lies in the folder {inside}, which is replaced as a whole: {path!r}"
                raise ManifestError(manifest.written, problem, place=place)


def _check_urls(
    manifest: Manifest[Table], inputs: Sequence[tuple[str, str]], outputs: Sequence[tuple[str, str]]
) -> None:
    """Refuses urls that name no object, hold secrets, or cannot be written to."""
    for paths, check in ((inputs, parse), (outputs, refuse_output)):
        for place, path in paths:
            try:
                if is_url(path):
                    check(path)
            except MaterializeError as error:
                raise ManifestError(manifest.written, str(error), place=place) from None
