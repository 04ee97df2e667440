"""Weight files: what tells them apart, and models built without values."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from audiocraft.checkpoints.weights import fill_model, fingerprint, select_state, without_values
from audiocraft.errors import UserError


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    weights = {"a": torch.arange(5.0)}
    torch.save(weights, tmp_path / "one.bin")
    torch.save(weights, tmp_path / "two.bin")
    torch.save({"a": torch.arange(5.0) + 1}, tmp_path / "other.bin")
    save_file(weights, tmp_path / "one.safetensors")
    save_file(weights, tmp_path / "two.safetensors")
    prints = {path.name: fingerprint(path) for path in tmp_path.iterdir()}
    assert prints["one.bin"] == prints["two.bin"] != prints["other.bin"]
    assert prints["one.safetensors"] == prints["two.safetensors"] != prints["one.bin"]
    assert all(len(value) == 12 for value in prints.values())
    long = torch.zeros(3 << 18)  # three MiB
    for name, place in (("long", None), ("longer", None), ("end", -1), ("start", 0)):
        changed = torch.cat([long, long[:1]]) if name == "longer" else long.clone()
        if place is not None:
            changed[place::1000] = 1
        save_file({"a": changed}, tmp_path / name)
    assert len({fingerprint(tmp_path / name) for name in ("long", "longer", "end", "start")}) == 4


def test_no_random_start() -> None:
    """Nothing is drawn while a model is built, and every value comes from the weights."""
    before = torch.get_rng_state()
    with without_values("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Embedding(4, 3), torch.nn.LayerNorm(3))
        torch.nn.init.trunc_normal_(model[0].weight)
    assert all(value.is_meta for value in model.parameters())
    with without_values("cpu"):
        torch.nn.Linear(3, 2)
    assert torch.equal(before, torch.get_rng_state())
    state = {name: torch.full(value.shape, 0.5) for name, value in model.state_dict().items()}
    fill_model(model, state, "somewhere")
    assert torch.equal(model[0](torch.ones(1, 3)), torch.full((1, 2), 2.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    with without_values("meta"):
        model = torch.nn.Linear(3, 2)
    with pytest.raises(UserError, match=r"run\.th are no numbers any more \(bias\): .*earlier epoch"):
        fill_model(model, {"weight": torch.zeros(2, 3), "bias": torch.tensor([0.0, value])}, "run.th")


def test_loading_does_not_import_the_compiler(model_folder: Path) -> None:
    """torch's compiler takes seconds to import; a cold start has no use for it."""
    code = (
        "import sys; from audiocraft.models import MusicGen\n"
        f"MusicGen.get_pretrained({str(model_folder)!r}, 'cpu').generate_unconditional\n"
        "heavy = ('torch._dynamo', 'transformers', 'huggingface_hub', 'hydra', 'scipy', 'matplotlib')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def checkpoint(**changes: Any) -> dict[str, Any]:
    """Of a run: its weights are 1, their average 2, the best ones 3."""
    content = {
        "model": {"a": torch.ones(1)},
        "ema": {"state": {"model": {"a": torch.full((1,), 2.0)}}, "count": 1.0},
        "best_state": {"model": {"a": torch.full((1,), 3.0)}},
        "history": [{"train": {}, "valid": {}}],
    }
    return {**content, **changes}


def test_an_average_of_nothing_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """Before its first step an average holds the random start: nobody may take that for trained weights."""
    empty = {"state": checkpoint()["ema"]["state"], "count": 0.0}
    assert select_state(checkpoint(), None, "it")[1]["a"] == 2
    with caplog.at_level(logging.WARNING):
        assert select_state(checkpoint(), None, "it")[0] == "ema" and not caplog.records
        name, weights = select_state(checkpoint(ema=empty), None, "it")
    assert name == "model" and weights["a"] == 1
    assert "no average yet" in caplog.text
    for ema in (None, empty, {"count": 1.0}):
        with pytest.raises(UserError, match="no 'ema' weights"):
            select_state(checkpoint(ema=ema), "ema", "it")


def test_best_before_the_first_validation_is_none() -> None:
    """Best states are registered with the random start."""
    assert select_state(checkpoint(), "best", "it")[1]["a"] == 3
    # Inside the first epoch: `stages` are those it has been through.
    inside = {"stages": {"train": {}, "valid": {}}}
    assert select_state(checkpoint(history=[], epoch_state=inside), "best", "it")[1]["a"] == 3
    for changes in ({"history": []}, {"history": [{"train": {}}]}, {"history": [], "epoch_state": {"stages": {}}}):
        with pytest.raises(UserError, match="no 'best' weights"):
            select_state(checkpoint(**changes), "best", "it")
