"""`python -m polars_materialize` is the command line."""

from __future__ import annotations

from polars_materialize.program import run

run()
