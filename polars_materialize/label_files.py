"""MOS label files to one long frame of labels, whatever columns their corpus gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from polars_materialize import fields, keys
from polars_materialize.arguments import checked
from polars_materialize.errors import (
    LISTED,
    KeyColumnError,
    LabelError,
    OptionError,
    TableError,
    did_you_mean,
    listing,
    no_panics,
)
from polars_materialize.formats import (
    UNNAMED,
    LabelFormat,
    check_columns,
    check_named,
    find_format,
    is_own_key,
    list_formats,
    numbers_of,
    recognise,
)
from polars_materialize.labels import (
    EXTRAS,
    LABEL_SCHEMA,
    NUMERIC_EXTRAS,
    TEXT_EXTRAS,
    as_written,
    parse_scale,
    with_scale,
)
from polars_materialize.options import LabelFile, LabelLike, list_entries
from polars_materialize.stores import check_storage_options, local_folder
from polars_materialize.tables import Dialect, File, Records, find, read_records

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from polars_materialize.formats import KeyNormalize
    from polars_materialize.stores import StorageOptions

FILLED = (
    "key_column",
    "mos_column",
    "std_dev_column",
    "n_ratings_column",
    "key_normalize",
    "key_regex",
    "scale",
)
"""The options of an entry that a format or a run may fill in."""
KEY_RULE = ("key_normalize", "key_regex")
"""Those of them that a format says of its own key."""
MOS_COLUMNS = ("mos", "mean_mos", "mos_raw_0_100", "raw_mos", "score", "quality")


@checked
def scan_labels(
    labels: LabelLike | Iterable[LabelLike],
    *,
    label_key_column: str | None = None,
    label_mos_column: str | None = None,
    label_scale: str = "auto",
    label_key_regex: str | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    storage_options: StorageOptions | None = None,
) -> pl.LazyFrame:
    """Opens label files as one long frame, one row a row of the files.

    The files are read when the frame is collected, which `join_labels` does. Without options each file's own
    columns decide, whatever their case: the key is in the first of `keys.LABEL_KEYS`, the score in the first
    of `mos mean_mos mos_raw_0_100 raw_mos score quality`. Spread (`mos_std_dev stddev std_dev`), number of
    ratings (`n_ratings mos_n_ratings rating_count`), `split`, `corpus` and `corpus_version` come along.

    Args:
        labels: Label files: paths, globs or `LabelFile`.
        label_key_column: The key column, in every file that does not say itself.
        label_mos_column: The MOS column, likewise.
        label_scale: `auto`, or `LOW:HIGH`, likewise. `auto` decides for a whole file, by the values of its
            rows with a key: 1 to 5 if all are there; 0 to 100 if its MOS column is called `mos_raw_0_100`, or
            if all are from 0 to 100 and the largest is above 10. Anything else is refused.
        label_key_regex: What to take from a normalised key, likewise.
        base_dir: What relative paths are relative to.
        storage_options: See `scan_table`.

    Returns:
        Columns as `LABEL_SCHEMA`: `key` (text, not yet normalised), `value` (as in the file), and what is
        needed to make labels of them.

    Raises:
        OptionError: If a scale or a pattern is not valid.
        TableError: If there is no such file; on collecting, if it is not of its format.
        KeyColumnError: On collecting, if a file has no key column.
        LabelFileError: On collecting, if `auto` cannot tell the scale of a file.
        LabelError: On collecting, if it cannot and rows with a key have no number, or if keys stand in two
            columns whose names differ in case only.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "labels.csv"
        ...     _ = path.write_text("clip_id,MOS\\na,3.5\\nb,4.1\\n")
        ...     scan_labels(path).select("key", "value").collect().rows()
        [('a', 3.5), ('b', 4.1)]
    """
    defaults = LabelFile(
        "",
        key_column=label_key_column,
        mos_column=label_mos_column,
        key_regex=label_key_regex,
        scale=label_scale,
    )
    options = check_storage_options(storage_options)
    found = find_labels(list_labels(labels), defaults, local_folder(base_dir), options)
    return pl.defer(no_panics()(lambda: read_labels(found)), schema=LABEL_SCHEMA)


def list_labels(labels: LabelLike | Iterable[LabelLike]) -> list[LabelFile]:
    """Reads one entry or several."""
    return list_entries(labels, LabelFile, "labels")


def find_labels(
    entries: Sequence[LabelFile],
    defaults: LabelFile,
    base_dir: Path | None,
    storage_options: StorageOptions | None = None,
) -> list[tuple[LabelFile, list[File]]]:
    """The files of each entry, its options filled in from `defaults` and checked.

    Raises:
        OptionError: If an option is not valid, or there is no entry.
        TableError: If there is no such file.
    """
    if not entries:
        raise OptionError("labels: expected at least one label file", option="labels")
    for entry in entries:
        check_label_file(entry)
    parse_scale(defaults.scale or "auto", option="label_scale")
    if defaults.key_regex is not None:
        keys.check_regex(defaults.key_regex, option="label_key_regex")
    found = []
    for entry in entries:
        form = _named_format(entry)
        columns = entry.columns or form.columns
        dialect = Dialect.of(form.text, columns, TEXT_EXTRAS)
        files = find(entry.path, base_dir, dialect=dialect, storage_options=storage_options)
        found.append((_with_defaults(entry, form, defaults), files))
    return found


def _named_format(entry: LabelFile) -> LabelFormat:
    """The format that an entry names; for `auto` one that says nothing."""
    return LabelFormat() if entry.format == "auto" else find_format(entry.format, list_formats().labels)


def _with_defaults(entry: LabelFile, form: LabelFormat, defaults: LabelFile) -> LabelFile:
    """An entry with its format, and the run's options where neither of them says anything."""
    says = {name for name in _said_of(form, entry) if getattr(form, name)}
    said = {
        name: getattr(entry, name) or (None if name in says else getattr(defaults, name)) for name in FILLED
    }
    return msgspec.structs.replace(entry, **said, format=form if entry.format != "auto" else "auto")


def _said_of(form: LabelFormat, entry: LabelFile) -> list[str]:
    """The options that a format may fill in: another key than its own is not spelt as its rule expects."""
    has_own_key = is_own_key(entry.key_column, form.key_column)
    return [name for name in FILLED if has_own_key or name not in KEY_RULE]


def _with_format(entry: LabelFile, form: LabelFormat, columns: Sequence[str]) -> LabelFile:
    """An entry with what its format says of a file with some columns, where it says nothing itself."""
    said: dict[str, Any] = {}
    # As the file spells them, whatever their case.
    known = {**{name.lower(): name for name in reversed(columns)}, **{name: name for name in columns}}
    for name in _said_of(form, entry):
        options = getattr(form, name)
        if isinstance(options, list):
            spelled = (known.get(each, known.get(each.lower())) for each in options)
            options = next((own for own in spelled if own is not None), (*options, None)[0])
        said[name] = getattr(entry, name) or options
    return msgspec.structs.replace(entry, **said, format=form)


def check_label_file(entry: LabelFile) -> None:
    """Refuses what can be seen to be wrong with an entry before any file is read.

    Raises:
        OptionError: If a scale, a pattern or the list of columns is not valid.
    """
    if not entry.path.strip():
        raise OptionError("labels: an entry names no path", option="labels")
    if entry.scale is not None:
        parse_scale(entry.scale, option="scale")
    if entry.key_regex is not None:
        keys.check_regex(entry.key_regex, option="key_regex")
    check_named(check_label_format, _named_format(entry))
    check_columns(entry.columns)


def check_label_format(form: LabelFormat) -> None:
    """Refuses what can be seen to be wrong with a format before any file is read.

    Raises:
        OptionError: If a scale, a pattern or the list of columns is not valid.
    """
    check_columns(form.columns)
    if form.scale is not None:
        parse_scale(form.scale, option="scale")
    if form.key_regex is not None:
        keys.check_regex(form.key_regex, option="key_regex")


def read_labels(
    files: Sequence[tuple[LabelFile, Sequence[File]]], key_normalize: KeyNormalize | None = None
) -> pl.DataFrame:
    """Reads label files now; see `scan_labels`.

    The scale of a file is decided here, from all its rows, whatever is left of them when they are joined.
    """
    read = (_read_file(entry, file) for entry, found in files for file in found)
    return pl.concat(with_scale(rows, key_normalize) for rows in read)


def _read_file(entry: LabelFile, file: File) -> pl.DataFrame:
    """One file's rows; which columns hold the key and the score is one choice for the whole file."""
    form = entry.format if isinstance(entry.format, LabelFormat) else LabelFormat()
    any_key = [name for each in list_formats().labels.values() for name in each.key_column]
    key_columns = [entry.key_column] if entry.key_column else form.key_column or any_key
    parts = list(read_records([file], key_columns=key_columns))
    if not any(part.frame.height for part in parts):
        raise TableError(file.written, "no rows; expected at least one label")
    columns = list(dict.fromkeys(name for part in parts for name in part.frame.columns))
    for option, name in (
        ("std_dev_column", entry.std_dev_column),
        ("n_ratings_column", entry.n_ratings_column),
    ):
        if name and not any(fields.find_fields(part.frame.schema, [name]) for part in parts):
            problem = f"no {option} {name!r}; it has {listing(columns)}{did_you_mean(name, columns)}"
            raise TableError(file.written, problem)
    if isinstance(entry.format, LabelFormat):
        entry = _with_format(entry, entry.format, columns)
    elif (
        not entry.columns
        and (known := recognise(columns, list_formats().labels, keys.LABEL_KEYS)) is not None
    ):
        # What a scale says of every number is more than a few names can prove.
        entry = _with_format(entry, msgspec.structs.replace(known, scale=None), columns)
    key, mos = _key_and_mos(parts, columns, entry, file)
    long = pl.concat([_extract(part, entry, file, key, mos) for part in parts]).sort("row")
    astray = long.filter("astray").get_column("place")
    if astray.len():
        reason = (
            f"no key in {key!r}, but one in a column whose name differs in case only; expected one column"
        )
        raise LabelError([(place, reason) for place in astray.head(LISTED)], astray.len())
    return long.drop("row", "astray")


def _key_and_mos(
    parts: Sequence[Records], columns: Sequence[str], entry: LabelFile, file: File
) -> tuple[str, str]:
    """The columns of the key and of the score; if there are none, an error about the one to blame."""
    mos = _mos_column(parts, entry)
    try:
        key = keys.infer_key_column(
            columns,
            keys.LABEL_KEYS,
            asked=entry.key_column,
            table=file.written,
            option="label_key_column",
            hint=lambda: ", or say the format (polars-materialize formats lists them)",
        )
    except KeyColumnError as error:
        form = entry.format
        if isinstance(form, LabelFormat) and entry.key_column in form.key_column:
            raise KeyColumnError(
                f"{file.written}: no key column {listing(form.key_column)}{_as_expected_by(form)}; it has "
                f"{listing(columns)}; say another format, or the key with key_column",
                **error.fields,
            ) from None
        # Without its MOS column a table is not known by its columns: then its key is not what is wrong.
        if mos is None and not entry.key_column and _format_of_key(columns) is not None:
            raise _no_mos(columns, entry, file) from None
        raise
    if mos is None:
        raise _no_mos(columns, entry, file)
    return key, mos


def _format_of_key(columns: Sequence[str]) -> LabelFormat | None:
    """The only format that has its key in one of some columns, whatever the others are."""
    found = [
        form
        for form in list_formats().labels.values()
        if form.mos_column and not set(form.key_column).isdisjoint(columns)
    ]
    return found[0] if len(found) == 1 else None


def _mos_column(parts: Sequence[Records], entry: LabelFile) -> str | None:
    """The first candidate that the file has, spelled so if any row has it spelled so."""
    for name in [entry.mos_column] if entry.mos_column else MOS_COLUMNS:
        found = [field.name for part in parts for field in fields.find_fields(part.frame.schema, [name])]
        if found:
            return name if name in found else found[0]
    return None


def _no_mos(columns: Sequence[str], entry: LabelFile, file: File) -> TableError:
    asked = entry.mos_column
    if asked:
        form = entry.format if isinstance(entry.format, LabelFormat) else LabelFormat()
        is_own = asked in form.mos_column
        names = listing(form.mos_column if is_own else [asked]) + (_as_expected_by(form) if is_own else "")
        hint = (
            "; say another format, or the score with mos_column" if is_own else did_you_mean(asked, columns)
        )
        return TableError(file.written, f"no MOS column {names}; it has {listing(columns)}{hint}")
    known = _format_of_key(columns)
    hint = (
        f"; its key is that of {known.name}, where the MOS is in {listing(known.mos_column)}" if known else ""
    )
    return TableError(
        file.written,
        f"no MOS column; it has {listing(columns)}; tried {' '.join(MOS_COLUMNS)}{hint}; name it with "
        "label_mos_column, or say the format (polars-materialize formats lists them)",
    )


def _as_expected_by(form: LabelFormat) -> str:
    """That it is a format which expects some columns; the user need not have named them."""
    return f", which the format{'' if form.name == UNNAMED else f' {form.name!r}'} expects"


def _extract(records: Records, entry: LabelFile, file: File, key: str, mos: str) -> pl.DataFrame:
    frame = records.frame
    score = next((field for field in fields.find_fields(frame.schema, [mos]) if field.name == mos), None)
    form = entry.format if isinstance(entry.format, LabelFormat) else LabelFormat()
    missing = [word.lower() for word in form.missing] + (["null"] if "" in form.missing else [])
    wrong: list[pl.Expr] = []
    extras: dict[str, pl.Expr] = {}
    asked = {"mos_std_dev": entry.std_dev_column, "mos_n_ratings": entry.n_ratings_column}
    for extra, generic in EXTRAS.items():
        own = asked.get(extra)
        names = [own] if own else generic
        found = [
            field for field in fields.find_fields(frame.schema, names) if field.name.lower() != mos.lower()
        ]
        if extra in NUMERIC_EXTRAS:
            extras[extra] = fields.first([fields.number(field) for field in found], pl.Float64())
            wrong += [_not_a_number(field, missing) for field in found]
        else:
            wrong += [_not_text(field) for field in found if _is_no_text(field.dtype)]
            texts = [fields.text(field) for field in found if not _is_no_text(field.dtype)]
            extras[extra] = fields.first(texts, pl.String())
    others = [name for name in frame.columns if name != key and name.lower() == key.lower()]
    other_keys = [fields.text(fields.Field(name, pl.col(name), frame.schema[name])) for name in others]
    text, value, written = pl.lit(None, pl.String), pl.lit(None, pl.Float64), pl.lit("null")
    if key in frame.columns:
        text = keys.key_text(pl.col(key), frame.schema[key], name=key, table=file.written)
    if score is not None:
        value, written = fields.number(score), pl.coalesce(as_written(score), written)
    return frame.select(
        records.row,
        text.alias("key"),
        value.alias("value"),
        written.alias("written"),
        records.source,
        records.place,
        pl.lit(key).alias("key_column"),
        pl.lit(entry.key_normalize, dtype=pl.String).alias("key_normalize"),
        pl.lit(entry.key_regex, dtype=pl.String).alias("key_regex"),
        pl.lit(mos).alias("mos_column"),
        pl.lit(entry.scale or "auto").alias("scale"),
        pl.lit(form.name or None, dtype=pl.String).alias("format"),
        (
            written.str.strip_chars().str.to_lowercase().is_in(missing)
            | value.is_in(numbers_of(missing)).fill_null(value=False)
        ).alias("missing"),
        fields.first(wrong, pl.String()).alias("problem"),
        *(expr.alias(name) for name, expr in extras.items()),
        astray=text.is_null() & fields.first(other_keys, pl.String()).is_not_null(),
    )


def _not_a_number(field: fields.Field, missing: Sequence[str]) -> pl.Expr:
    """What is wrong with a field that holds text which is no number; null where nothing is."""
    if _is_no_text(field.dtype):
        return _not_text(field, "a number")
    text = fields.text(field)
    reason = pl.concat_str(pl.lit(f"{field.name} '"), text, pl.lit("' is no number"))
    says_something = text.is_not_null() & ~text.str.to_lowercase().is_in(missing)
    return pl.when(says_something & fields.number(field).is_null()).then(reason)


def _is_no_text(dtype: pl.DataType) -> bool:
    return dtype.is_nested() or dtype in (pl.Binary, pl.Object)


def _not_text(field: fields.Field, expected: str = "text") -> pl.Expr:
    """What is wrong with a field of lists, objects or bytes; null where there is none."""
    found = "a list or an object" if field.dtype.is_nested() else str(field.dtype)
    return pl.when(field.expr.is_not_null()).then(pl.lit(f"{field.name} is {found}; expected {expected}"))
