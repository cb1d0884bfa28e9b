"""What a batch reads and writes, and whether what it reads is there, before anything runs."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from polars_materialize.batch_kinds import KINDS, Kind, Table, id_of
from polars_materialize.errors import ManifestError, MaterializeError
from polars_materialize.manifests import Manifest, kind_of, read_manifest
from polars_materialize.stores import is_url
from polars_materialize.tables import Dialect, find, find_shards, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from polars_materialize.runs import Context, PathLike
    from polars_materialize.stores import Place

AT_ONCE = 8
"""How many inputs in stores are looked for at a time."""


def read_as(form: Kind[Table], path: PathLike, base_dir: PathLike | None) -> Manifest[Table]:
    """Reads a manifest of a kind.

    Raises:
        ManifestError: Names the first place that is wrong, or the kind that it is of instead.
    """
    try:
        return read_manifest(
            path, table=form.table, options=form.options, forms=form.forms, base_dir=base_dir
        )
    except ManifestError as error:
        kind = kind_of(path)
        if kind in KINDS and kind != form.name:
            place = str(error.fields["place"] or "it")
            problem = f"is a manifest of {kind}: {place} is not of {form.name}; run it with {kind} batch"
            raise ManifestError(os.fspath(path), problem) from None
        raise error from None


def output_paths(table: Table, form: Kind[Table]) -> list[tuple[str, str]]:
    """The paths that a table writes, by field."""
    paths = ((name, getattr(table, name)) for name in form.outputs)
    return [(name, path) for name, path in paths if path is not None]


def input_files(table: Table, form: Kind[Table], context: Context) -> Iterator[tuple[str, str, Place]]:
    """The inputs of a table, as far as they are there: the role of each, and its path and place."""
    for name, path in form.inputs(table):
        try:
            # A format may read files of any suffix.
            found = find(
                path,
                context.base_dir,
                folders=True,
                dialect=Dialect("csv"),
                storage_options=context.storage_options,
            )
            files = [(file.written, file.path) for file in found]
        except (MaterializeError, OSError):
            files = [context.locate(path)]
        yield from ((_role(name), *file) for file in files)


def _role(field: str) -> str:
    """What a run calls an input.

    Example:
        >>> _role("labels.files[0]"), _role("saliency.model_path")
        ('labels', 'model_path')
    """
    return field.partition("[")[0].removesuffix(".files").rpartition(".")[2]


def find_lacking(tables: Sequence[Table], form: Kind[Table], context: Context) -> dict[str, str]:
    """Looks for every input of every table; for each table that lacks some, all that it lacks."""
    paths = {id_of(table): form.inputs(table) for table in tables}
    wanted = dict.fromkeys((_role(name), path) for some in paths.values() for name, path in some)
    asked = [one for one in wanted if is_url(one[1])]
    problems = {one: _missing(*one, context) for one in wanted if not is_url(one[1])}
    problems |= dict(
        zip(asked, in_order(lambda one: _missing(*one, context), asked, at_once=AT_ONCE), strict=True)
    )
    lacking: dict[str, str] = {}
    for name, some in paths.items():
        found = [problems[_role(name), path] for name, path in some]
        said = dict.fromkeys(problem for problem in found if problem is not None)
        if said:
            lacking[name] = "; ".join(said)
    return lacking


def _missing(role: str, path: str, context: Context) -> str | None:
    """What is said of an input that is not there, in the words of who would read it."""
    if not is_url(path):
        root = "" if context.base_dir is None else context.base_dir
        whole = Path(root) / path
        if os.path.exists(whole):  # noqa: PTH110 - of what cannot be looked at it says no
            return None
        if next(glob.iglob(path, root_dir=root, recursive=True), None):  # noqa: PTH207 - root_dir
            return None
    if role == "model_path":
        return f"{path}: cannot be read: No such file or directory"
    try:
        if role in ("features", "input"):
            find_shards(path, context.base_dir, context.storage_options)
        else:
            find(
                path,
                context.base_dir,
                folders=True,
                dialect=Dialect("csv"),
                storage_options=context.storage_options,
            )
    except MaterializeError as error:
        return str(error)
    except OSError:  # whoever reads it says what is wrong
        return None
    return None
