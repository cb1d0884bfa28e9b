"""Arguments of a wrong type: refused in one line that says what came and what was expected.

Public functions and the structs that users make are checked by their annotations, so that the type of an
option is said in one place. What a value of the right type may be is checked where it is used.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeVar, cast

import msgspec

from polars_materialize import warm
from polars_materialize.errors import OptionError, did_you_mean
from polars_materialize.texts import is_utf8

Function = TypeVar("Function", bound=Callable[..., Any])

SHOWN = 60
"""Characters of a value that an error shows at most."""

SECRET = ("storage_options",)
"""Arguments with a check of their own, since no error may show their values."""

PATHS = ("path", "root", "ffmpeg_bin", "ffprobe_bin", "model_path")
"""The fields of structs that a `Path` may be given for; the structs hold text, as JSON does."""


class Kind(NamedTuple):
    """A kind of value that an argument may have.

    Attributes:
        words: What that is called in an error.
        accepts: Whether a value is one.
        items: What the items of a list may be.
    """

    words: str
    accepts: Callable[[Any], bool]
    items: Sequence[Kind] = ()


def checked(function: Function) -> Function:
    """Make a public function refuse arguments of a wrong type before it does anything.

    Raises:
        OptionError: By the function that is returned; names the argument.
    """
    signature = inspect.signature(function)
    known: dict[str, Sequence[Kind]] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not known:
            known.update(_kinds_of_parameters(function))
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # Python says it better when it is called
            given = {}
        for name, value in given.items():
            if name in known:
                check(name, value, known[name])
        return function(*args, **kwargs)

    return cast("Function", call)


def check_fields(struct: msgspec.Struct) -> None:
    """Refuse fields of a wrong type; to be called when a struct has been made.

    Paths become text and tuples become lists, as they would be read from JSON.

    Raises:
        OptionError: Names the field.
    """
    for name, kinds in _kinds_of_fields(type(struct)).items():
        value = getattr(struct, name)
        if name in PATHS and is_path(value) and not isinstance(value, str):
            value = os.fspath(value)
            msgspec.structs.force_setattr(struct, name, value)
        check(name, value, kinds)
        if isinstance(value, tuple):
            msgspec.structs.force_setattr(struct, name, list(value))


class Checked(msgspec.Struct, frozen=True):
    """A struct that users make: it refuses fields of a wrong type."""

    def __post_init__(self) -> None:
        """Check the fields; see `check_fields`."""
        check_fields(self)


def check(name: str, value: object, kinds: Sequence[Kind]) -> None:
    """Refuse a value that is of none of some kinds.

    Raises:
        OptionError: Names the argument, what came and what was expected.

    Example:
        >>> check("overwrite", "yes", kinds_of(bool | None))
        Traceback (most recent call last):
        polars_materialize.errors.OptionError: overwrite: 'yes'; expected True or False, or None
    """
    if any(kind.accepts(value) for kind in kinds):
        return
    items = [item for kind in kinds for item in kind.items]
    for index, item in enumerate(value if items and isinstance(value, (list, tuple)) else ()):
        check(f"{name}[{index}]", item, items)
    words = list(dict.fromkeys(kind.words for kind in kinds))
    if "a path" in words and "text" in words:
        words.remove("text")
    expected = f"{', '.join(words[:-1])}, or {words[-1]}" if len(words) > 1 else words[0]
    raise OptionError(
        f"{name}: {describe(value)}; expected {expected}{_hint(name, value, words)}", option=name
    )


def describe(value: object) -> str:
    """Describe a value for an error: by itself if it is short, else by its type.

    Example:
        >>> describe("0.9"), describe(None), describe([1]), describe(os)
        ("'0.9'", 'None', 'a list', 'a module')
    """
    if value is None or type(value) in (bool, int, float, str, bytes):
        shown = repr(value)
        return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    kind = type(value)
    origin = kind.__module__.partition(".")[0]
    name = kind.__name__ if origin in ("builtins", __package__) else f"{origin} {kind.__name__}"
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def is_text(value: object) -> bool:
    """Tell whether a value is text that a file can hold."""
    return isinstance(value, str) and is_utf8(value)


def is_path(value: object) -> bool:
    """Tell whether a value is text, or a path that is text."""
    return is_text(value) or (isinstance(value, os.PathLike) and is_text(os.fspath(value)))


def is_frame(value: object) -> bool:
    """Whether a value is a table, of whatever library: something that has columns."""
    return hasattr(type(value), "columns") and not isinstance(value, msgspec.Struct)


def entry_of(struct: type[Any], value: Mapping[Any, Any], place: str) -> Any:
    """Make a struct of an object of its fields, as in a manifest.

    Args:
        struct: The struct.
        value: The object.
        place: What to call it in an error.

    Raises:
        OptionError: If a name is unknown, a field that has to be there is missing, or of a wrong type.
    """
    known = struct.__struct_fields__
    for name in value:
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise OptionError(
                f"{place}: unknown name {name!r}{hint}; expected some of {' '.join(known)}", option=place
            )
    for field in msgspec.structs.fields(struct):
        if field.required and field.name not in value:
            raise OptionError(f"{place}: {field.name!r} is missing", option=place)
    try:
        return struct(**value)
    except OptionError as error:
        raise OptionError(f"{place}.{error}", option=place) from None


def kinds_of(hint: Any) -> list[Kind]:
    """What an annotation allows.

    Example:
        >>> [kind.words for kind in kinds_of(str | list[int] | None)]
        ['text', 'a list of a whole number', 'None']
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, TypeVar):
        return [kind for part in hint.__constraints__ for kind in kinds_of(part)]
    if origin in (typing.Union, types.UnionType):
        return [kind for part in parts for kind in kinds_of(part)]
    if hint in _PLAIN:
        return [_PLAIN[hint]]
    if origin is Literal:
        return [Kind(f"one of {' '.join(parts)}", lambda value: isinstance(value, str) and value in parts)]
    if origin is list:
        items = kinds_of(parts[0])
        return [Kind(f"a list of {_several(items)}", lambda value: _holds(value, items), items)]
    if origin in (Iterable, Sequence):
        items = kinds_of(parts[0])
        wanted = object if origin is Iterable else Sequence
        return [Kind(f"a list of {_several(items)}", lambda value: _gives(value, items, wanted), items)]
    if origin is dict:
        names, values = map(kinds_of, parts)
        words = f"a dict of {_several(names)} to {_several(values)}"
        return [
            Kind(
                words,
                lambda value: (
                    isinstance(value, dict)
                    and _holds(list(value), names)
                    and _holds(list(value.values()), values)
                ),
            )
        ]
    if origin is Mapping:
        return [Kind("a dict", lambda value: isinstance(value, Mapping))]
    if origin is Callable:
        return [Kind("a function", callable)]
    if origin is os.PathLike:
        return [_PLAIN[os.PathLike]]
    return [Kind(_called(hint), lambda value: isinstance(value, hint))]


_PLAIN: Mapping[Any, Kind] = {
    Any: Kind("anything", lambda _: True),
    types.NoneType: Kind("None", lambda value: value is None),
    bool: Kind("True or False", lambda value: isinstance(value, bool)),
    int: Kind("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: Kind("a number", lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)),
    str: Kind("text", is_text),
    os.PathLike: Kind("a path", is_path),
    Executor: Kind("a concurrent.futures.Executor", lambda value: isinstance(value, Executor)),
}


def _several(items: Sequence[Kind]) -> str:
    words = dict.fromkeys(kind.words for kind in items)
    return " or ".join(word for word in words if word != "text" or "a path" not in words)


def _holds(value: object, items: Sequence[Kind]) -> bool:
    """Whether a value is a list, and each item of it is of some kind."""
    return isinstance(value, (list, tuple)) and all(
        any(kind.accepts(item) for kind in items) for item in value
    )


def _gives(value: object, items: Sequence[Kind], wanted: type) -> bool:
    """Whether a value gives items; those of a list are looked at, what can be read once only is not."""
    if isinstance(value, (list, tuple)):
        return _holds(value, items)
    is_text = isinstance(value, (str, bytes, bytearray, Mapping))
    return isinstance(value, Iterable) and isinstance(value, wanted) and not is_text and not is_frame(value)


def _called(hint: type) -> str:
    name = hint.__name__
    article = "an" if name[0] in "AEIOU" else "a"
    return f"{article} polars {name}" if name in ("DataFrame", "LazyFrame") else f"{article} {name}"


def _hint(name: str, value: object, words: Sequence[str]) -> str:
    """What makes the right thing of a wrong one, where that is plain."""
    if isinstance(value, (str, os.PathLike)) and not is_path(value):
        return ", in Unicode"
    origin = type(value).__module__.partition(".")[0]
    if "a polars LazyFrame" in words:
        if origin in ("pandas", "pyarrow") and is_frame(value):
            return f"; polars.from_{origin.replace('pyarrow', 'arrow')}({name}) makes one"
        scan = {"scores": "scan_scores", "labels": "scan_labels"}.get(name, "scan_table")
        return f"; {scan}({value!r}) reads one" if is_path(value) and len(repr(value)) <= SHOWN else ""
    part = next((word[2:] for word in words if word in ("a LabelPart", "a ScorePart")), None)
    if part and is_path(value) and len(repr(value)) <= SHOWN:
        return f"; {part}(files={value!r}) makes one"
    if "a path" in words and is_frame(value):
        return (
            "; sink_table writes a frame to a file, and join_scores, join_labels and add_saliency take frames"
        )
    return ""


def _kinds_of_parameters(function: Callable[..., Any]) -> dict[str, Sequence[Kind]]:
    own = inspect.unwrap(function)
    annotations = {
        name: hint for name, hint in own.__annotations__.items() if name not in ("return", *SECRET)
    }
    words = set(re.findall(r"\w+", " ".join(annotations.values())))
    with warm.importing:
        homes = {
            name: import_module(f"{__package__}.{home}") for name, home in _HOMES.items() if name in words
        }
    known = {name: getattr(home, name) for name, home in homes.items()}
    shim = types.SimpleNamespace(__annotations__=annotations)
    hints = typing.get_type_hints(shim, {**_NAMES, **known, **own.__globals__})
    return {name: kinds_of(hint) for name, hint in hints.items()}


_NAMES: Mapping[str, Any] = {
    "Callable": Callable,
    "Executor": Executor,
    "Iterable": Iterable,
    "PathLike": str | os.PathLike[str],
    "Progress": Callable[..., None],
    "Sequence": Sequence,
    "os": os,
}
"""What annotations speak of that modules import for type checkers only."""
_HOMES: Mapping[str, str] = {
    "FrameSelection": "options",
    "Guards": "joins",
    "KeyNormalize": "formats",
    "Matrix": "options",
    "Policy": "options",
    "SignalReport": "signal_mix.reports",
    "TemporalAggregator": "options",
}
"""The same of this package, and the modules that have it."""
_fields: dict[type, dict[str, Sequence[Kind]]] = {}


def _kinds_of_fields(struct: type) -> dict[str, Sequence[Kind]]:
    if struct not in _fields:
        _fields[struct] = {name: kinds_of(hint) for name, hint in typing.get_type_hints(struct).items()}
    return _fields[struct]
