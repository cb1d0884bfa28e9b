"""Batch manifests: read whole and checked whole, before anything runs.

A manifest is `{"defaults": {...}, "formats": {...}, "storage_options": {...}, "tables": [...]}`. Names that
begin with `_` are comments, anywhere; `$schema` is for editors. Every error names the place as a JSON path,
such as `$.tables[1].missing_policy`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from polars_materialize import warm
from polars_materialize.errors import ManifestError, OptionError, counted, did_you_mean, listing
from polars_materialize.stores import StorageOptions, check_storage_options
from polars_materialize.texts import PROBLEM, find_unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Table = TypeVar("Table", bound=msgspec.Struct)
MOST_DIGITS = 300
"""How many digits a number of a manifest may have; a float has no more."""


@dataclass(frozen=True)
class Forms:
    """A kind of formats of evidence.

    Attributes:
        struct: The struct of a format.
        check: Refuses what that alone shows to be wrong.
        known: The built-in ones by name.
    """

    struct: type[msgspec.Struct]
    check: Callable[[Any], None]
    known: Callable[[], Mapping[str, object]]


@dataclass(frozen=True)
class Manifest(Generic[Table]):
    """A checked manifest.

    Attributes:
        written: Its path as the user wrote it.
        path: Where it is.
        base_dir: What its relative paths are relative to.
        content: Its bytes, as they were read.
        tables: Its tables, defaults filled in.
        storage_options: How stores are reached; never shown.
    """

    written: str
    path: Path
    base_dir: Path
    content: bytes = dataclasses.field(repr=False)
    tables: list[Table]
    storage_options: StorageOptions = dataclasses.field(default_factory=dict, repr=False)


def read_manifest(
    path: str | os.PathLike[str],
    *,
    table: type[Table],
    options: type[msgspec.Struct],
    forms: Mapping[str, Forms] | None = None,
    base_dir: str | os.PathLike[str] | None = None,
) -> Manifest[Table]:
    """Reads a manifest and checks the names, types and choices of all its fields.

    Args:
        path: The manifest.
        table: The struct of a table with its options.
        options: The struct of the options alone, which `defaults` may hold.
        forms: For each field of a table that holds evidence its kind of formats; `formats` may hold some by
            name: as they are if there is one such field, else below its name.
        base_dir: What relative paths are relative to; else the manifest's folder.

    Raises:
        ManifestError: Names the first place that is wrong.
    """
    written = os.fspath(path)
    raw, content = _load(written)
    forms = forms or {}
    known: tuple[str, ...] = ("defaults", "storage_options", "tables")
    known = ("formats", *known) if forms else known
    schema = content.pop("$schema", "")
    if not isinstance(schema, str):
        raise ManifestError(written, "expected the address of a JSON Schema", place="$.$schema")
    for name in content:
        if name not in known:
            raise ManifestError(
                written,
                f"unknown name{did_you_mean(name, known)}; expected {', '.join(known)}, or _comments",
                place=f"$.{name}",
            )
    defaults = content.get("defaults", {})
    _convert(written, defaults, options, "$.defaults")
    formats = _own_formats(written, content.get("formats", {}), forms)
    entries = content.get("tables")
    if not isinstance(entries, list) or not entries:
        raise ManifestError(written, "expected a list of at least one table", place="$.tables")
    tables = []
    for index, entry in enumerate(entries):
        place = f"$.tables[{index}]"
        if not isinstance(entry, dict):
            raise ManifestError(written, "expected an object", place=place)
        given = _with_formats(written, entry, formats, forms, place)
        tables.append(_convert(written, _with_defaults(given, defaults), table, place))
    _check_ids(written, tables)
    folder = Path(written).parent if base_dir is None else Path(base_dir)
    return Manifest(written, Path(written), folder, raw, tables, _storage_options(written, content))


def _storage_options(written: str, content: Mapping[str, object]) -> StorageOptions:
    try:
        return check_storage_options(content.get("storage_options"))
    except OptionError as error:
        place, _, problem = str(error).partition(": ")
        raise ManifestError(written, problem, place=f"$.{place}") from None


def _own_formats(
    written: str, content: object, forms: Mapping[str, Forms]
) -> dict[str, dict[str, dict[str, Any]]]:
    """The formats that a manifest brings along, by the field of tables that may name them."""
    if len(forms) == 1:
        return {field: _formats(written, content, form, "$.formats") for field, form in forms.items()}
    if not isinstance(content, dict):
        raise ManifestError(written, "expected an object", place="$.formats")
    for name in content:
        if name not in forms:
            problem = f"unknown name{did_you_mean(name, forms)}; expected {' or '.join(forms)}"
            raise ManifestError(written, problem, place=f"$.formats.{name}")
    return {
        field: _formats(written, content.get(field, {}), form, f"$.formats.{field}")
        for field, form in forms.items()
    }


def _formats(written: str, content: object, form: Forms, place: str) -> dict[str, dict[str, Any]]:
    """Formats of one kind, checked, each with its name in it."""
    if not isinstance(content, dict):
        raise ManifestError(written, "expected an object", place=place)
    for name, value in content.items():
        own = f"{place}.{name}"
        if not name.strip():
            raise ManifestError(written, f"{name!r}: expected a name, not blank text", place=place)
        if name in form.known() or name == "auto":
            raise ManifestError(written, "is the name of a built-in format; expected another", place=own)
        found = _convert(written, value, form.struct, own)
        try:
            form.check(found)
        except OptionError as error:
            option = error.fields["option"]
            problem = str(error).removeprefix(f"{option}: ")
            raise ManifestError(written, problem, place=f"{own}.{option}") from None
    return {name: {**value, "name": name} for name, value in content.items()}


def _with_defaults(entry: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """A table with the defaults that it does not say otherwise; those of a part where it has that part."""
    plain = {name: value for name, value in defaults.items() if not isinstance(value, dict)}
    parts = {
        name: {**defaults[name], **entry[name]}
        for name in defaults
        if isinstance(defaults[name], dict) and isinstance(entry.get(name), dict)
    }
    return {**plain, **entry, **parts}


def _with_formats(
    written: str,
    entry: dict[str, Any],
    formats: Mapping[str, dict[str, dict[str, Any]]],
    forms: Mapping[str, Forms],
    place: str,
) -> dict[str, Any]:
    """A table whose entries of evidence have the formats of the manifest that they name."""
    given = dict(entry)
    for field, own in formats.items():
        part, inner = given.get(field), f"{place}.{field}"
        known = [*own, *forms[field].known()]
        if isinstance(part, dict) and "files" in part:
            files = _with_format(written, part["files"], own, known, f"{inner}.files")
            given[field] = {**part, "files": files}
        elif field in given:
            given[field] = _with_format(written, part, own, known, inner)
    return given


def _with_format(
    written: str, value: object, own: Mapping[str, dict[str, Any]], known: Sequence[str], place: str
) -> object:
    """Entries with the formats that they name."""
    if not isinstance(value, list):
        return value
    entries = []
    for index, entry in enumerate(value):
        name = entry.get("format", "auto") if isinstance(entry, dict) else "auto"
        if isinstance(name, str) and name not in ("auto", *known):
            expected = f"expected auto or one of {' '.join(known)}"
            problem = f"{name!r}{did_you_mean(name, known)}; {expected}"
            raise ManifestError(written, problem, place=f"{place}[{index}].format")
        entries.append({**entry, "format": own[name]} if isinstance(name, str) and name in own else entry)
    return entries


def _load(written: str) -> tuple[bytes, dict[str, Any]]:
    try:
        raw = Path(written).read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(written, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ManifestError(written, "is not UTF-8 text") from None
    except ValueError:  # it holds a NUL
        raise ManifestError(repr(written), "is no path") from None
    content = _parse_json(written, text)
    if not isinstance(content, dict):
        raise ManifestError(written, "expected an object with tables", place="$")
    return raw, _without_comments(content)


def _without_comments(content: Any) -> Any:
    """JSON without the members of objects that are comments, however deep."""
    if isinstance(content, list):
        return [_without_comments(item) for item in content]
    if isinstance(content, dict):
        return {name: _without_comments(item) for name, item in content.items() if not name.startswith("_")}
    return content


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Of which kind of batch a manifest is by the names in its tables, if they are of one kind only."""
    try:
        _, content = _load(os.fspath(path))
    except ManifestError:
        return None
    entries = content.get("tables")
    kinds = (
        {_kind(entry) for entry in entries if isinstance(entry, dict)}
        if isinstance(entries, list)
        else {None}
    )
    return kinds.pop() if len(kinds) == 1 else None


def _kind(table: dict[str, Any]) -> str | None:
    parts = [name for name in ("labels", "scores", "saliency") if name in table]
    if "input" in table or "output" in table:
        return None if parts else "saliency"
    if any(isinstance(table[name], dict) for name in parts):
        return "refresh"
    return {"labels": "mos-labels", "scores": "second-opinion"}.get(" ".join(parts))


def _parse_json(written: str, text: str) -> object:
    try:
        found = json.loads(text, object_pairs_hook=_refuse_repeated, parse_int=_parse_integer)
        unwritable = find_unwritable(found) if "\\ud" in text.lower() or not text.isascii() else None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ManifestError(written, f"not JSON: {error.msg}", place=place) from None
    except RecursionError:
        raise ManifestError(written, "is nested too deep") from None
    except ValueError as error:
        raise ManifestError(written, str(error)) from None
    if unwritable is not None:
        raise ManifestError(written, f"{unwritable[1]} {PROBLEM}", place=unwritable[0])
    return found


def read_struct(
    text: str, struct: type[Table], *, option: str, more: Mapping[str, object] | None = None
) -> Table:
    """Options that are given as JSON, as a part of a manifest would be.

    Args:
        text: The JSON.
        struct: What it is to be.
        option: What gave it, for messages.
        more: Fields that were given otherwise.

    Raises:
        ManifestError: Names the place.

    Example:
        >>> from polars_materialize.options import Sidecar
        >>> read_struct('{"path": "s.jsonl"}', Sidecar, option="--scores").path
        's.jsonl'
    """
    value = _parse_json(option, text)
    return _convert(option, {**value, **(more or {})} if isinstance(value, dict) else value, struct, "$")


def _parse_integer(digits: str) -> int:
    """Read an integer that no option can need more digits for; Python's own limit speaks to programmers."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"holds a number of {counted(len(digits), 'digit')}; expected {MOST_DIGITS} at most")
    return int(digits)


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"names that stand twice in one object: {listing(twice)}")
    return members


def _convert(written: str, value: object, struct: type[Table], place: str) -> Table:
    """Converts an object to a struct, with an error that says where, what and what was expected."""
    if not isinstance(value, dict):
        raise ManifestError(written, "expected an object", place=place)
    hints = typing.get_type_hints(struct)
    _check_names(written, value, [struct], place)
    for name, member in value.items():
        if isinstance(member, dict) and _structs(hints[name]):
            _convert(written, member, _structs(hints[name])[0], f"{place}.{name}")
        for index, item in enumerate(member if isinstance(member, list) else ()):
            if isinstance(item, dict):
                _check_names(written, item, _structs(hints[name]), f"{place}.{name}[{index}]")
                for entry in _structs(hints[name]):
                    _check_choices(written, item, typing.get_type_hints(entry), f"{place}.{name}[{index}]")
    _check_choices(written, value, hints, place)
    for field in msgspec.structs.fields(struct):
        if field.required and field.name not in value:
            raise ManifestError(written, f"{field.name!r} is missing", place=place)
    warm.describe(struct)
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        problem, _, inner = str(error).partition(" - at ")
        inner = inner.strip("`").removeprefix("$")
        lowered = problem[:1].lower() + problem[1:]
        raise ManifestError(written, lowered.replace("`", ""), place=f"{place}{inner}") from None


def _check_names(
    written: str, value: dict[str, Any], structs: Sequence[type[msgspec.Struct]], place: str
) -> None:
    """Refuses names that none of the structs has."""
    known = sorted({name for struct in structs for name in struct.__struct_fields__})
    for name in value:
        if name not in known:
            raise ManifestError(
                written,
                f"unknown name{did_you_mean(name, known)}; expected one of {' '.join(known)}",
                place=f"{place}.{name}",
            )


def _check_choices(written: str, value: dict[str, Any], hints: dict[str, Any], place: str) -> None:
    """Refuses text that is none of the choices of a field."""
    for name, member in value.items():
        choices = _choices(hints.get(name))
        if choices and isinstance(member, str) and member not in choices:
            hint = did_you_mean(member, choices)
            problem = f"unknown choice {member!r}{hint}; expected one of {' '.join(choices)}"
            raise ManifestError(written, problem, place=f"{place}.{name}")


def _structs(hint: object) -> list[type[msgspec.Struct]]:
    """The structs inside of a type hint."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [struct for part in typing.get_args(hint) for struct in _structs(part)]


def _choices(hint: object) -> tuple[str, ...]:
    """The texts that a type hint allows, if it allows only some."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        found = [_choices(part) for part in typing.get_args(hint)]
        return () if str in typing.get_args(hint) else tuple(c for part in found for c in part)
    return ()


def _check_ids(written: str, tables: Sequence[Any]) -> None:
    first: dict[str, int] = {}
    for index, table in enumerate(tables):
        place = f"$.tables[{index}].id"
        if not table.id.strip():
            raise ManifestError(written, "expected a name, not blank text", place=place)
        if table.id in first:
            problem = f"{table.id!r} is also the id of $.tables[{first[table.id]}]"
            raise ManifestError(written, problem, place=place)
        first[table.id] = index
