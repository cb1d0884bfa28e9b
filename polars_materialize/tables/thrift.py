"""Thrift's compact protocol, as far as the footer of a Parquet file needs it.

A struct is read as the fields that it has, by their numbers, with their types as written. So what this
package does not know of is written back as it was.

The protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import struct as packing
from dataclasses import dataclass, field
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
"""The types of values, as they are numbered in the protocol."""

INTEGERS = (I16, I32, I64)


@dataclass(slots=True)
class Struct:
    """A struct: for each field by its number its type and its value.

    Attributes:
        fields: The fields in their order. A value is a bool, an int, a float, bytes, a `Struct`, a `List` or
            a `Map`. What is written may also hold the bytes of a struct that was encoded before.
    """

    fields: dict[int, tuple[int, Any]] = field(default_factory=dict)

    def copy(self) -> Struct:
        """A struct with the same fields, to be changed."""
        return Struct(dict(self.fields))

    def get(self, number: int, default: Any = None) -> Any:
        """The value of a field, or a default if the struct does not have it."""
        found = self.fields.get(number)
        return default if found is None else found[1]

    def set(self, number: int, kind: int, value: Any) -> None:
        """Sets a field; a new one goes where its number belongs."""
        known = number in self.fields
        self.fields[number] = (kind, value)
        if not known:
            self.fields = dict(sorted(self.fields.items()))

    def drop(self, *numbers: int) -> None:
        """Takes fields away."""
        for number in numbers:
            self.fields.pop(number, None)


@dataclass(slots=True)
class List:
    """A list or a set: the type of its items, and the items."""

    kind: int
    items: list[Any]


@dataclass(slots=True)
class Map:
    """A map: the types of its keys and values, and both in pairs."""

    kinds: tuple[int, int]
    items: list[tuple[Any, Any]]


class CutOffError(ValueError):
    """The bytes end within a struct."""


def decode(data: bytes) -> Struct:
    """Reads a struct.

    Raises:
        ValueError: If the bytes are no struct of the compact protocol.

    Example:
        >>> decode(bytes([0x15, 0x04, 0x00])).get(1)
        2
    """
    return decode_first(data)[0]


def decode_first(data: bytes, until: int | None = None) -> tuple[Struct, int]:
    """Reads a struct at the beginning of bytes.

    Args:
        data: The bytes.
        until: The last field of the struct to read, if not all are.

    Returns:
        The struct, and how many bytes were read.

    Raises:
        CutOffError: If the bytes end within the struct.
        ValueError: If they are no struct of the compact protocol.

    Example:
        >>> decode_first(bytes([0x15, 0x04, 0x00, 0xFF]))[1]
        3
    """
    reader = _Reader(data)
    try:
        return reader.struct(until), reader.at
    except IndexError:
        raise CutOffError("the metadata ends within a value") from None
    except RecursionError:
        raise ValueError("structs within structs without end") from None


def encode(value: Struct) -> bytes:
    """Writes a struct.

    Example:
        >>> encode(Struct({1: (I32, 2)})).hex()
        '150400'
    """
    out = bytearray()
    _write_struct(out, value)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, until: int | None = None) -> Struct:
        fields: dict[int, tuple[int, Any]] = {}
        number = 0
        while number != until and (head := self._byte()):
            kind = head & 0x0F
            number = number + (head >> 4) if head >> 4 else _unzigzag(self._varint())
            fields[number] = (kind, kind == TRUE if kind in (TRUE, FALSE) else self._value(kind))
        return Struct(fields)

    def _value(self, kind: int) -> Any:
        if kind in INTEGERS:
            value = self._varint()
            return (value >> 1) ^ -(value & 1)
        if kind == BINARY:
            return self._take(self._varint())
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, SET):
            return self._list()
        if kind == MAP:
            return self._map()
        if kind == DOUBLE:
            return packing.unpack("<d", self._take(8))[0]
        if kind == BYTE:
            return self._byte()
        if kind in (TRUE, FALSE):
            return self._byte() == TRUE  # within a list
        raise ValueError(f"a value of the unknown type {kind}")

    def _list(self) -> List:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        kind = head & 0x0F
        return List(kind, [self._value(kind) for _ in range(count)])

    def _map(self) -> Map:
        count = self._varint()
        head = self._byte() if count else 0
        kinds = head >> 4, head & 0x0F
        return Map(kinds, [(self._value(kinds[0]), self._value(kinds[1])) for _ in range(count)])

    def _byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        data, at = self._data, self.at
        value = shift = 0
        while (byte := data[at]) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            at += 1
        self.at = at + 1
        return value | byte << shift

    def _take(self, count: int) -> bytes:
        value = self._data[self.at : self.at + count]
        if len(value) != count:
            raise IndexError
        self.at += count
        return value


def _unzigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _zigzag(value: int) -> int:
    return (value << 1) if value >= 0 else (-value << 1) - 1


def _write_struct(out: bytearray, value: Struct) -> None:
    before = 0
    for number, (kind, content) in value.fields.items():
        written = (TRUE if content else FALSE) if kind in (TRUE, FALSE) else kind
        if 0 < number - before < 16:
            out.append((number - before) << 4 | written)
        else:
            out.append(written)
            _write_varint(out, _zigzag(number))
        before = number
        if kind not in (TRUE, FALSE):
            _write_value(out, kind, content)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in INTEGERS:
        _write_varint(out, _zigzag(value))
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT and isinstance(value, bytes):
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        _write_list(out, value)
    elif kind == MAP:
        _write_varint(out, len(value.items))
        if value.items:
            out.append(value.kinds[0] << 4 | value.kinds[1])
        for pair in value.items:
            _write_value(out, value.kinds[0], pair[0])
            _write_value(out, value.kinds[1], pair[1])
    elif kind == DOUBLE:
        out += packing.pack("<d", value)
    elif kind == BYTE:
        out.append(value)
    else:
        out.append(TRUE if value else FALSE)


def _write_list(out: bytearray, value: List) -> None:
    if len(value.items) < 15:
        out.append(len(value.items) << 4 | value.kind)
    else:
        out.append(0xF0 | value.kind)
        _write_varint(out, len(value.items))
    for item in value.items:
        _write_value(out, value.kind, item)


def _write_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
