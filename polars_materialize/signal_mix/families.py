"""Signal families: a table of data that says what each is, and which columns belong to it.

The built-in table is `families.json`, in the form that a user's own file has too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from polars_materialize import warm
from polars_materialize.arguments import Checked
from polars_materialize.errors import ManifestError, OptionError, listing
from polars_materialize.signal_mix.patterns import is_valid, matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Family(
    Checked, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A family of signals.

    Attributes:
        name: What reports call it, such as `temporal_flicker`.
        patterns: Which columns belong to it; see `signal_mix.patterns`.
        unless: Which columns do not, although a pattern matches.
        label: What people call it; else made of its name.
        question: What its signals answer.
        candidate_metrics: What could be computed to cover it.
        recommendation: What to do if it is not covered.

    Example:
        >>> Family(name="freezes", patterns=["freeze", "stall"]).has("n_freeze2")
        True
    """

    name: str
    patterns: list[str] = []
    unless: list[str] = []
    label: str = ""
    question: str = ""
    candidate_metrics: list[str] = []
    recommendation: str = ""

    def has(self, column: str) -> bool:
        """Whether a column belongs to the family, by its name."""
        return any(matches(pattern, column) for pattern in self.patterns) and not any(
            matches(pattern, column) for pattern in self.unless
        )

    @property
    def title(self) -> str:
        """Its label, or its name in words."""
        return self.label or self.name.replace("_", " ")


class FamilyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of families.

    Attributes:
        families: The families.
        mode: Whether they `extend` the built-in table or `replace` it. In an extension, a family with a known
            name gets the patterns and metrics that are new, and the texts that are given.
    """

    families: list[Family]
    mode: Literal["extend", "replace"] = "extend"


BUILT_IN = Path(__file__).with_name("families.json")


@warm.once
def built_in() -> tuple[Family, ...]:
    """The built-in families, in the order of reports.

    Example:
        >>> [family.name for family in built_in()][:3], len(built_in())
        (['canonical_fr', 'error_energy', 'structural_similarity'], 13)
    """
    warm.describe(FamilyFile)
    return tuple(msgspec.json.decode(BUILT_IN.read_bytes(), type=FamilyFile).families)


def read_families(written: str, content: bytes) -> tuple[Family, ...]:
    """The families that a user's file makes of the built-in ones.

    Args:
        written: The file, as the user wrote its path.
        content: What it holds.

    Raises:
        ManifestError: Names the place in the file.
    """
    warm.describe(FamilyFile)
    try:
        found = msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=FamilyFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(written, " ".join(str(error).split())) from None
    families = found.families
    if found.mode == "extend":
        own = {family.name: family for family in families}
        known = [_extended(family, own.get(family.name)) for family in built_in()]
        names = {family.name for family in known}
        new = [family for family in families if family.name not in names]
        _check(written, families, patterns=False)
        families = known + new
    _check(written, families, patterns=True)
    return tuple(families)


def _extended(family: Family, more: Family | None) -> Family:
    if more is None:
        return family
    return Family(
        name=family.name,
        patterns=list(dict.fromkeys(family.patterns + more.patterns)),
        unless=list(dict.fromkeys(family.unless + more.unless)),
        label=more.label or family.label,
        question=more.question or family.question,
        candidate_metrics=list(dict.fromkeys(family.candidate_metrics + more.candidate_metrics)),
        recommendation=more.recommendation or family.recommendation,
    )


def _check(written: str, families: Sequence[Family], *, patterns: bool) -> None:
    """Refuses families that no column could belong to, and names that stand twice."""
    names = [family.name for family in families]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not families:
        raise ManifestError(written, "expected at least one family", place="$.families")
    if twice:
        raise ManifestError(written, f"families that stand twice: {listing(twice)}", place="$.families")
    for index, family in enumerate(families):
        place = f"$.families[{index}]"
        if not family.name.strip():
            raise ManifestError(written, "expected a name", place=f"{place}.name")
        if patterns and not family.patterns:
            raise ManifestError(written, f"family {family.name!r} has no patterns", place=f"{place}.patterns")
        for pattern in (*family.patterns, *family.unless):
            if not is_valid(pattern):
                problem = (
                    f"family {family.name!r}: {pattern!r} is no pattern; expected name parts joined by _, "
                    "such as ms_ssim, _p10 or =scale_0"
                )
                raise ManifestError(written, problem, place=place)


def choose_families(
    families: str | os.PathLike[str] | Iterable[Family] | None,
) -> tuple[Family, ...]:
    """The families to audit by: the built-in ones, those of a file, or those that are given.

    Raises:
        OptionError: If they are not usable.
    """
    if families is None:
        return built_in()
    if isinstance(families, (str, os.PathLike)):
        return read_families(os.fspath(families), read_file(os.fspath(families), Path(families)))
    try:
        given = tuple(families)
    except TypeError:
        given = (None,)  # type: ignore[assignment]
    if not all(isinstance(family, Family) for family in given):
        raise OptionError("families: expected a path, or Family structs", option="families")
    _check("families", given, patterns=True)
    return given


def read_file(written: str, path: Path) -> bytes:
    """The bytes of a file of families.

    Raises:
        ManifestError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestError(written, f"cannot be read: {reason}") from None
