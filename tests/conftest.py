"""Fixtures that several test modules share."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile(
    "suite",
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data that may stand beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder 'shared' with real data beside the repository")
    return folder


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small networks: one takes any size, one multiples of 8 only."""
    oracle = pytest.importorskip("saliency_oracle", reason="needs PyAV and onnx")
    folder = tmp_path_factory.mktemp("networks")
    oracle.pixel_network(folder / "pixel.onnx")
    oracle.block_network(folder / "block.onnx")
    return folder


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """A real ffmpeg program."""
    programs = pytest.importorskip("imageio_ffmpeg", reason="needs an ffmpeg program")
    return str(programs.get_ffmpeg_exe())


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine that must not be connected to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()
