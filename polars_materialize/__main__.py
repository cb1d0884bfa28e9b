"""`python -m polars_materialize` is the command line."""

from __future__ import annotations

import sys

from polars_materialize.cli import main

sys.exit(main())
