"""How far 8-bit weights are from float32, in what they expect next: mean KL divergence over the codes of some takes."""

import sys
import tempfile
import typing as tp
from pathlib import Path

if tp.TYPE_CHECKING:
    import numpy as np
    import torch

    from audiocraft.models import LMModel
    from audiocraft.models.fast import FastLM

CLIPS = 2


def measure(path: str, seconds: float) -> dict[str, tp.Any]:
    """Divergences of both engines from float32 on codes that the model itself draws with the usual settings.

    Args:
        path: a model without text.
        seconds: length of each of the takes.
    Returns:
        Per engine: `kl`, nats per code on average, `kl_worst`, of one code, and `same_first`, the share of codes whose
        likeliest choice is the same.
    Raises:
        UserError: the model listens to text, or is none.
    """
    import torch

    from audiocraft.errors import UserError
    from audiocraft.models import MusicGen
    from audiocraft.models.fast import FastLM, resolve_precision

    model = MusicGen.get_pretrained(path, "cpu")
    lm, codec = model.lm, model.compression_model
    if lm.condition_provider.conditioners:
        raise UserError(f"{path} listens to text; give a model without")
    with torch.no_grad():
        codes = lm.generate(num_samples=CLIPS, max_gen_len=max(1, int(seconds * codec.frame_rate)), seed=0)
        pattern = lm.pattern_provider.get_pattern(codes.shape[-1])
        sequence, _, mask = pattern.build_pattern_sequence(codes, lm.special_token_id)
        read, drawn = sequence[..., :-1], mask[:, 1:].t()  # [B, K, S], and which codes [S, K] follow
        exact = _torch_logits(FastLM(lm), read)[:, drawn]
        figures: dict[str, tp.Any] = {"player-int8": compare(exact, _player_logits(lm, read)[:, drawn])}
        precision = resolve_precision("auto", lm.device)
        if precision != "float32":
            figures[f"torch-{precision}"] = compare(exact, _torch_logits(FastLM(lm, precision), read)[:, drawn])
    return figures


def compare(exact: "torch.Tensor", rounded: "torch.Tensor") -> dict[str, float]:
    """Figures of `measure` from logits [..., card]."""
    ours, theirs = exact.log_softmax(-1), rounded.log_softmax(-1)
    divergence = (ours.exp() * (ours - theirs)).sum(-1)
    same = (exact.argmax(-1) == rounded.argmax(-1)).float().mean()
    return {"kl": float(divergence.mean()), "kl_worst": float(divergence.max()), "same_first": float(same)}


def _torch_logits(playing: "FastLM", sequence: "torch.Tensor") -> "torch.Tensor":
    """Logits [B, S, K, card] after each step of [B, K, S]."""
    from audiocraft.modules.conditioners import FusedConditions

    clips, _, steps = sequence.shape
    hidden = playing.hidden(sequence, FusedConditions(), playing.make_cache(clips, steps), first=True)
    return playing.logits(hidden.flatten(0, 1)).unflatten(0, (clips, steps))


def _player_logits(lm: "LMModel", sequence: "torch.Tensor") -> "torch.Tensor":
    """The same from the graph that an export writes, step by step as the player reads it."""
    import torch

    from audiocraft.onnx_player.export import PLAYER
    from audiocraft.onnx_player.lm import lm_graph
    from audiocraft.utils import takes

    sys.modules["takes"] = takes  # its files stand alone, as they do in a player's folder
    sys.path.insert(0, str(PLAYER))
    from engine import open_session, physical_cores
    from generation import LanguageModel

    steps = sequence.shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lm.onnx"
        lm_graph(lm, "int8", steps).save(file)
        step = LanguageModel(open_session(file, physical_cores(), busy=True), {})
        cache = step.start(sequence.shape[0], steps)
        logits: list[np.ndarray] = [step.read(cache, sequence[..., s : s + 1].numpy()).copy() for s in range(steps)]
    return torch.stack([torch.from_numpy(each) for each in logits], 1)
