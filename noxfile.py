"""The tests on every Python that is supported, with the newest and with the oldest dependencies allowed.

`pipx run nox` runs all sessions, with uv, which also brings the Pythons. `nox -s floors` runs one, and
`nox -s tests-3.13 -- tests/test_cli.py` some tests of one.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.11", "3.12", "3.13"]


def run_tests(session: nox.Session) -> None:
    """Run the suite, or what was asked for."""
    session.run("pytest", "-n", "2", "--dist", "worksteal", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests with the newest dependencies."""
    session.install("-e", ".[test]")
    run_tests(session)


@nox.session(python=PYTHONS[0])
def floors(session: nox.Session) -> None:
    """Run the tests with the oldest dependencies that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "-e", ".[test]")
    run_tests(session)


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """Check style and types."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
