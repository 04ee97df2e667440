"""Generation by description through the public API, against the peer's codes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from audiocraft.errors import UserError
from audiocraft.models import MusicGen
from audiocraft.modules.attributes import ConditioningAttributes, drop_all_conditions

pytest.importorskip("transformers")


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    """A text model as the peer exports it, with its T5 and a codec."""
    folder = shutil.copytree(golden / "lm_text", tmp_path / "text")
    shutil.copy(golden / "codec_ac" / "compression_state_dict.bin", folder)
    return folder


def test_descriptions(folder: Path) -> None:
    model = MusicGen.get_pretrained(folder, "cpu")
    texts = json.loads((folder / "texts.json").read_text())["texts"]
    io = load_file(folder / "io.safetensors")
    frames = io["gen_cfg"].shape[-1]
    for two_step in (False, True):
        model.set_generation_params(use_sampling=False, duration=frames / model.frame_rate, two_step_cfg=two_step)
        wav, codes = model.generate(texts, return_tokens=True)
        assert torch.equal(codes, io["gen_cfg"])
        assert wav.shape[0] == len(texts)
    # The prompt is continued under the same texts.
    prompt = torch.randn(len(texts), 1, model.sample_rate // 5) * 0.1
    _, codes = model.generate_continuation(prompt, model.sample_rate, texts, return_tokens=True)
    assert codes.shape == io["gen_cfg"].shape and not torch.equal(codes, io["gen_cfg"])
    # Seeds hold whether or not the halves of the guidance run together.
    takes = []
    for two_step in (False, True):
        model.set_generation_params(duration=0.5, cfg_coef=2.0, two_step_cfg=two_step)
        takes.append(model.generate(texts, return_tokens=True, seed=3)[1])
    assert torch.equal(*takes)


def test_windows_keep_the_description(folder: Path) -> None:
    """Longer than the reach: every window is guided by the text."""
    model = MusicGen.get_pretrained(folder, "cpu")
    model.max_duration = 0.4
    codes = []
    for text in ("slow strings", "fast drums"):
        model.set_generation_params(duration=1.0, extend_stride=0.3, use_sampling=False)
        codes.append(model.generate([text], return_tokens=True)[1])
    assert codes[0].shape[-1] == int(model.frame_rate)
    second_windows = [c[..., int(0.5 * model.frame_rate) :] for c in codes]
    assert not torch.equal(*second_windows)


def test_other_conditioners_are_refused_by_name(folder: Path) -> None:
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    for node, says in (
        ("{self_wav: {model: chroma_stem}}", "self_wav is a 'chroma_stem', which is not served"),
        ("{description: {model: lut, lut: {}}}", "description is a 'lut'"),
        ("{description: t5}", r"conditioners\.description has no node t5"),
        (
            "{description: {model: t5, t5: {name: t5-base, speed: 3}}}",
            r"unknown key 'conditioners\.description\.t5\.speed'",
        ),
        ("{description: {model: t5, t5: {}}}", r"conditioners\.description\.t5\.name is missing"),
    ):
        text = "\n".join(_without(package["xp.cfg"], "conditioners")) + f"\nconditioners: {node}\n"
        torch.save({**package, "xp.cfg": text}, folder / "state_dict.bin")
        with pytest.raises(UserError, match=says):
            MusicGen.get_pretrained(folder, "cpu")


def _without(yaml: str, key: str) -> list[str]:
    """The lines of a YAML text but for one top-level key."""
    kept, skipping = [], False
    for line in yaml.splitlines():
        if not line.startswith((" ", "-")):
            skipping = line.startswith(f"{key}:")
        if not skipping:
            kept.append(line)
    return kept


@pytest.mark.parametrize("way", ["cross", "prepend"])
@torch.no_grad()
def test_guidance_is_that_of_the_logits(folder: Path, way: str) -> None:
    """Codes drawn step by step are the likeliest of the guided logits that one pass over all of them gives."""
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    text = "\n".join(_without(package["xp.cfg"], "fuser")) + f"\nfuser: {{{way}: [description]}}\n"
    if way == "prepend":  # a model of that kind has no cross-attention
        kept = {key: v for key, v in package["best_state"].items() if "cross" not in key}
        package["best_state"] = kept
    torch.save({**package, "xp.cfg": text}, folder / "state_dict.bin")
    lm = MusicGen.get_pretrained(folder, "cpu").lm
    texts = [ConditioningAttributes(text={"description": text}) for text in ("slow strings", "fast drums and bass")]
    for two_step in (False, True):
        codes = lm.generate(None, texts, max_gen_len=12, use_sampling=False, cfg_coef=2.5, two_step_cfg=two_step)
        # Both halves are filled up to the longest text of the pair that runs together.
        conditional, unconditional = (
            lm.compute_predictions(codes, half).logits for half in (texts, [drop_all_conditions(t) for t in texts])
        )
        guided = unconditional + (conditional - unconditional) * 2.5
        if two_step:
            seen = ~guided.isnan().any(-1)
            assert torch.equal(guided.argmax(-1)[seen], codes[seen])
        assert codes.shape == (2, 4, 12)
