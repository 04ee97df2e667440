"""Text encoders that are damaged, out of reach, or would run code; their numbers are in parity/."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.modules.conditioners import (
    T5Conditioner,
)
from audiocraft.modules.t5 import load_t5


@pytest.fixture
def t5(golden: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the tiny T5; what was read from it is forgotten afterwards."""
    pytest.importorskip("transformers")
    yield Path(shutil.copytree(golden / "lm_text" / "t5", tmp_path / "t5"))
    load_t5.cache_clear()


def refused(folder: Path | str) -> str:
    with pytest.raises(UserError) as error:
        T5Conditioner(str(folder), 16).tokenize(["dub"])
    assert "\n" not in str(error.value) and "name a local folder" in str(error.value)
    return str(error.value)


def test_damaged_encoders(t5: Path):
    weights = t5 / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:5000])
    refused(t5)
    from safetensors.torch import load, save

    state = load(whole)
    state.pop("encoder.block.0.layer.0.SelfAttention.q.weight")
    weights.write_bytes(save(state, {"format": "pt"}))
    assert "lack encoder.block.0" in refused(t5)
    weights.unlink()
    refused(t5)
    weights.write_bytes(whole)
    (t5 / "spiece.model").unlink()
    assert "spiece.model" in refused(t5)


def test_a_pickle_that_runs_code_is_refused(t5: Path, tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (t5 / "model.safetensors").unlink()
    torch.save({"shared.weight": Evil()}, t5 / "pytorch_model.bin")
    refused(t5)
    assert not (tmp_path / "ran").exists()


def test_out_of_reach_is_said_at_once(tmp_path: Path):
    """No retries: in a process of its own, because the hub's client reads its settings when it is imported."""
    pytest.importorskip("transformers")
    code = (
        "from audiocraft.errors import UserError\n"
        "from audiocraft.modules.conditioners import T5Conditioner\n"
        "try: T5Conditioner('t5-base', 8).tokenize(['dub'])\n"
        "except UserError as error: print(error)\n"
    )
    # A closed port of this machine stands for a net that does not answer.
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "cannot load the text encoder t5-base" in done.stdout and done.stdout.count("\n") == 1
    assert "etry" not in done.stderr
