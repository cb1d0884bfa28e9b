"""What runs have written, as tests compare it."""

from __future__ import annotations

import hashlib
from pathlib import Path


def files_of(folder="."):
    """Every file below a folder, with its bytes."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def described(name):
    """How provenance has to describe a file that is there."""
    content = Path(name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"path": name, "exists": True, "kind": "file", "sha256": digest, "bytes": len(content)}
