"""Fixtures for all tests: no hub, one thread for tiny models, the real data where it is."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it skip without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def seeds() -> Path:
    """The bundled seeds."""
    return ROOT / "pipelines" / "seeds"


@pytest.fixture(scope="session")
def fucina_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where nano models are built, once for all tests of a session."""
    return tmp_path_factory.mktemp("home")
