"""Tests of the training loop share what lies beside them."""

import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny codec and four short files in a manifest."""
    from tiny_lm import write_material

    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go to a fresh folder, whatever the environment says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIOCRAFT_DORA_DIR", raising=False)
