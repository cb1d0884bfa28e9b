"""The XML logs of libvmaf, as the JSON that libvmaf would have written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError, fromstring

from polars_materialize.errors import TableError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ROOT = "VMAF"


def to_json(data: bytes, source: str) -> bytes:
    """A log as one line of JSON: `version`, `params`, `fyi`, `frames`, and `pooled_metrics` by name.

    Numbers stay text, as they are in XML.

    Args:
        data: The log.
        source: Its file, for messages.

    Raises:
        TableError: If it is no such log.

    Example:
        >>> to_json(b'<VMAF version="3.0.0"><frames><frame vmaf="95.1"/></frames></VMAF>', "log.xml")
        b'{"version": "3.0.0", "frames": [{"vmaf": "95.1"}]}'
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise TableError(source, "not UTF-8 text; expected the XML log of libvmaf") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise TableError(source, "XML with a DOCTYPE, which no scorer writes")
    try:
        # As text, so that no encoding that it claims to have can hide an entity.
        root = fromstring(text)  # noqa: S314 - entities were looked for
    except ParseError as error:
        line, column = error.position
        reason = str(error).partition(":")[0]
        raise TableError(source, f"not XML: {reason} at column {column + 1}", line=line) from None
    if root.tag != ROOT:
        raise TableError(source, f"XML of <{root.tag}>; expected libvmaf's <{ROOT}>")
    content: dict[str, Any] = dict(root.attrib)
    content |= {part.tag: _part(part) for part in root}
    return json.dumps(content).encode()


def _part(part: Element) -> object:
    if part.tag == "frames":
        return [dict(frame.attrib) for frame in part]
    if part.tag == "pooled_metrics":
        return {metric.get("name", ""): dict(metric.attrib) for metric in part}
    return dict(part.attrib)
