"""The codec's decoder as graphs: pieces of any size give torch's sound of the whole."""

from pathlib import Path

import numpy as np
import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.loaders import load_compression_model
from audiocraft.onnx_player.codec import codec_parts

from .conftest import make_codec, open_graph

KINDS = [
    {},
    {"pad_mode": "reflect"},
    {"pad_mode": "constant"},
    {"causal": True},
    {"causal": True, "pad_mode": "constant", "n_residual_layers": 3},
    {"causal": True, "pad_mode": "reflect", "n_residual_layers": 2},
    {"lstm": 0},
    {"lstm": 1, "channels": 2, "true_skip": False, "ratios": [4, 3], "residual_kernel_size": 5},
    {"activation": "LeakyReLU", "activation_params": {"negative_slope": 0.3}},
]


def in_pieces(codec: EncodecModel, codes: torch.Tensor, sizes: list[int], path: Path, player_code) -> np.ndarray:
    parts = codec_parts(codec)
    sessions = [open_graph(parts.graphs[name], path / f"{name}.onnx") for name in ("features", "sound")]
    facts = {"hop_length": codec.hop_length, "channels": codec.channels, **parts.facts}
    decoding = player_code.generation.Decoding(*sessions, facts)
    blocks = codes.split(sizes, -1)
    waves = [decoding.push(block.numpy(), last=i == len(blocks) - 1) for i, block in enumerate(blocks)]
    return np.concatenate(waves, -1)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())) or "default")
def test_pieces_equal_the_whole_of_torch(kind: dict, tmp_path: Path, player_code):
    codec = make_codec(**kind)
    codes = torch.randint(0, 50, (2, 4, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = codec.decode(codes).numpy()
    for sizes in ([40], [20, 20], [1] * 40, [2, 17, 1, 1, 19]):
        wav = in_pieces(codec, codes, sizes, tmp_path, player_code)
        assert wav.shape == expected.shape
        np.testing.assert_allclose(wav, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_golden_codecs(golden: Path, tmp_path: Path, player_code):
    for folder in ("codec_ac", "codec_ac_causal", "codec_hf"):
        codec = load_compression_model(golden / folder)
        codes = torch.randint(0, codec.cardinality, (1, codec.num_codebooks, 12))
        with torch.no_grad():
            expected = codec.decode(codes).numpy()
        wav = in_pieces(codec, codes, [4, 5, 3], tmp_path, player_code)
        np.testing.assert_allclose(wav, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_norm_over_all_time_is_refused():
    with pytest.raises(UserError, match="time_group_norm"):
        codec_parts(make_codec(norm="time_group_norm"))


def test_an_unknown_activation_is_refused():
    with pytest.raises(UserError, match="activation Hardswish"):
        codec_parts(make_codec(activation="Hardswish", activation_params={}))
