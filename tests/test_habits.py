"""What tests must not do: pass whatever happens."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


def calls(tree, name):
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and ast.unparse(call.func) == name:
                    yield call, item.optional_vars


def test_what_is_raised_is_looked_at():
    """An error of this package, which has many, is told by its words or kept to be looked at."""
    found = []
    for file in TESTS:
        for call, kept in calls(ast.parse(file.read_text()), "pytest.raises"):
            what = ast.unparse(call.args[0])
            ours = "errors." in what or what in {"error", "pm.MaterializeError", "ClipError"}
            if ours and kept is None and not any(word.arg == "match" for word in call.keywords):
                found.append(f"{file.name}:{call.lineno}: {what}")

    assert found == []


def test_nothing_is_asserted_that_always_holds():
    found = []
    for file in TESTS:
        for node in ast.walk(ast.parse(file.read_text())):
            always = isinstance(node, ast.Assert) and (
                isinstance(node.test, ast.Constant)
                or (isinstance(node.test, ast.Tuple) and node.test.elts)
                or (isinstance(node.test, ast.BoolOp) and "is None or" in ast.unparse(node.test))
            )
            if always:
                found.append(f"{file.name}:{node.lineno}: {ast.unparse(node.test)}")

    assert found == []
