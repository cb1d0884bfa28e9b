"""What threads ask for first is made by one of them: in fresh processes, and as a rule of the source."""

from __future__ import annotations

import ast
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import threaded_paths

import polars_materialize as pm
from polars_materialize import warm

PACKAGE = Path(pm.__file__).parent
EXTENSIONS = {"av", "distributed", "numpy", "obstore", "onnxruntime", "pyarrow"}
NEED_THEM = {"polars_materialize.saliency.containers", "polars_materialize.saliency.stage"}
STARTS = {"sidecars": 3, "tables": 2}
"""How often to start a path that breaks less often than others, if it does."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("threaded")
    threaded_paths.fill(folder)
    return folder


@pytest.mark.parametrize(
    "path", [path.__name__ for path in threaded_paths.PATHS if path is not threaded_paths.buckets]
)
def test_what_threads_do_first_does_not_break(path, folder):
    for _ in range(STARTS.get(path, 1)):
        assert threaded_paths.start(path, folder)[0] == 0, threaded_paths.start(path, folder)[1]


def at_once(function, threads=8):
    """Calls a function by threads that begin together; what it gave them."""
    gate = threading.Barrier(threads)

    def call(_):
        gate.wait()
        return function()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(threads)))


def test_what_is_made_once_is_made_by_one_thread():
    made = []

    @warm.once
    def make():
        made.append(object())
        threading.Event().wait(0.05)
        return made[-1]

    assert at_once(make) == made * 8


def test_struct_types_are_learnt_one_at_a_time(monkeypatch):
    inside, most = [], []

    class Decoder:
        def __init__(self, _):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.pop()

    monkeypatch.setattr(msgspec.json, "Decoder", Decoder)
    structs = [msgspec.defstruct(f"S{n}", []) for n in range(4)]
    rest = iter(structs * 2)
    at_once(lambda: warm.describe(next(rest)))

    assert max(most) == 1
    assert warm._described.issuperset(structs)


def trees():
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file.relative_to(PACKAGE).as_posix(), ast.parse(file.read_text())


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def imported(node):
    """What an import statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return {node.module} if isinstance(node, ast.ImportFrom) else set()


def is_slow(name):
    return name.partition(".")[0] in EXTENSIONS or name in NEED_THEM


def test_functions_import_extension_packages_one_thread_at_a_time():
    found, guarded = [], []
    for file, tree in trees():
        for function in functions(tree):
            for node in ast.walk(function):
                found += [(file, name, node.lineno) for name in imported(node) if is_slow(name)]
                if isinstance(node, ast.With) and "importing" in ast.unparse(node.items[0]):
                    inner = [part for line in node.body for part in ast.walk(line)]
                    guarded += [(file, name, part.lineno) for part in inner for name in imported(part)]

    assert len(found) > 10
    assert [place for place in found if place not in guarded] == []


def test_struct_types_are_learnt_before_anything_is_decoded_to_them():
    found, without = 0, []
    for file, tree in trees():
        for function in functions(tree):
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            names = [ast.unparse(call.func) for call in calls]
            typed = [
                call
                for call, name in zip(calls, names, strict=True)
                if name == "msgspec.convert"
                or (name == "msgspec.json.decode" and "Raw" not in ast.unparse(call) and call.keywords)
            ]
            found += len(typed)
            if typed and "warm.describe" not in names:
                without.append((file, function.name))

    assert found >= 7
    assert without == []


def test_no_function_is_cached_that_several_threads_may_call_first():
    known = {
        "provenance.py: _version",  # a text of what is installed
        "signal_mix/patterns.py: _joined",  # of a name
        "signal_mix/patterns.py: parts_of",  # likewise
        "stores/objects.py: _bucket",  # of options, and two of the same do no harm
    }
    found = {
        f"{file}: {function.name}"
        for file, tree in trees()
        for function in functions(tree)
        for decorator in function.decorator_list
        if any(word in ast.unparse(decorator) for word in ("lru_cache", "functools.cache"))
        or ast.unparse(decorator) == "cache"
    }

    assert found == known
