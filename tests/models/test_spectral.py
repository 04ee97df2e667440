"""The spectral codec: codes, streams, tones that keep their pitch, what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from heard import hum, onset_correlation, pitch_kept
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tiny import run_player, tiny_lm

from audiocraft.errors import UserError
from audiocraft.models import builders, spectral
from audiocraft.models.codec_init import get_codebooks
from audiocraft.models.loaders import load_compression_model
from audiocraft.models.spectral import SpectralModel
from audiocraft.models.spectral_quantizer import nearest_sums, partial_vectors
from audiocraft.modules import sines
from audiocraft.modules.chunked import StreamState

CONFIG = {
    "compression_model": "spectral",
    "spectral": {"dimension": 12},
    "rvq": {"n_q": 3, "bins": 2048, "kmeans_iters": 2},
}


def notes(seconds: float = 3.0) -> torch.Tensor:
    """Struck notes [1, 1, T]: a melody, each with an octave, and a little noise."""
    time = np.arange(round(seconds * 32000)) / 32000
    rng = np.random.default_rng(0)
    wave = 3e-3 * rng.standard_normal(len(time))
    for i, hz in enumerate((220.0, 277.18, 329.63, 440.0, 196.0, 698.46)):
        since = time - 0.1 - 0.45 * i
        decay = np.where(since > 0, np.exp(-4 * np.clip(since, 0, None)), 0)
        wave += 0.3 * decay * (np.sin(2 * np.pi * hz * since) + 0.3 * np.sin(4 * np.pi * hz * since))
    return torch.from_numpy(wave).float()[None, None]


@pytest.fixture(scope="module")
def codec() -> SpectralModel:
    """Of codebooks that know the notes, and each other frame at another level."""
    torch.manual_seed(0)
    model = builders.get_compression_model(OmegaConf.create(CONFIG))
    assert isinstance(model, SpectralModel)
    envelopes = model.envelopes(torch.cat([gain * notes() for gain in (1.0, 0.5, 0.25, 0.1)], dim=-1))
    copies = envelopes[0].T.repeat(5, 1)
    model.quantizer.start_(copies + 0.02 * torch.randn_like(copies), 100)
    return model.eval()


def test_shape_of_things(codec: SpectralModel) -> None:
    assert (codec.frame_rate, codec.cardinality, codec.num_codebooks, codec.total_codebooks) == (50, 2048, 4, 4)
    assert codec.inner_rates == [50, 200]
    codes, scale = codec.encode(notes()[..., :20000].repeat(2, 1, 1))
    assert codes.shape == (2, 4, 32) and codes.dtype == torch.int64 and scale is None
    assert codec.decode(codes).shape == (2, 1, 32 * 640)
    result = codec(notes()[..., :20000])
    assert result.x.shape == (1, 1, 20000) and float(result.bandwidth) == pytest.approx(2.2)
    latent = codec.decode_latent(codes)
    assert latent.shape == (2, 12 + partial_vectors(2048).shape[1], 32)
    assert get_codebooks(codec).shape == (4, 2048, latent.shape[1])


def test_tones_keep_their_pitch(codec: SpectralModel) -> None:
    original = notes()
    decoded = codec(original).x
    assert pitch_kept(decoded[0], original[0], 32000) > 0.9
    assert onset_correlation(decoded[0], original[0], 32000) > 0.8


def test_fewer_codebooks(codec: SpectralModel) -> None:
    whole, _ = codec.encode(notes())
    try:
        for count in (1, 2, 3):
            codec.set_num_codebooks(count)
            codes, _ = codec.encode(notes())
            assert codes.shape[1] == count and codec.decode(codes).isfinite().all()
            if count > sines.TONES:
                assert torch.equal(codes[:, sines.TONES], whole[:, sines.TONES])
    finally:
        codec.set_num_codebooks(4)


@pytest.mark.parametrize("length", [1, 2, 639, 640, 641, 12345])
def test_any_length(codec: SpectralModel, length: int) -> None:
    codes, _ = codec.encode(notes()[..., 5000 : 5000 + length])
    assert codes.shape[-1] == -(-length // 640) and codec.decode(codes).isfinite().all()


def test_pieces_give_the_codes_of_the_whole(codec: SpectralModel, monkeypatch: pytest.MonkeyPatch) -> None:
    wav = notes()
    whole, _ = codec.encode(wav)
    blocks = list(codec.encode_blocks(wav.split([1, 0, 700, 30000, wav.shape[-1] - 30701], dim=-1)))
    assert torch.equal(torch.cat(blocks, dim=-1), whole)
    monkeypatch.setattr(spectral, "_PIECE", 7)
    assert (codec.encode(wav)[0] == whole).float().mean() > 0.999  # sums of another order
    with pytest.raises(UserError, match="empty"):
        list(codec.encode_blocks([wav[..., :0]]))


def test_streams_are_the_whole_and_can_be_kept(codec: SpectralModel) -> None:
    codes = codec.encode(notes())[0].repeat(2, 1, 1)
    whole = codec.decode(codes)
    decoder = codec.stream_decoder()
    state, parts = StreamState(), []
    for i in range(0, codes.shape[-1], 11):
        parts.append(decoder.push(state, codes[..., i : i + 11], last=i + 11 >= codes.shape[-1]))
        if i == 55:
            kept = dict(state)
            second = {name: part[1:] if isinstance(part, torch.Tensor) else part for name, part in state.items()}
    near = {"atol": 2e-4, "rtol": 0}  # -74 dB: on some CPUs other lengths sum in another order
    torch.testing.assert_close(torch.cat(parts, dim=-1), whole, **near)
    for one, rows in ((kept, slice(0, 2)), (second, slice(1, 2))):
        rest = decoder.push(one, codes[rows, :, 66:], last=True)
        torch.testing.assert_close(rest, whole[rows, :, -rest.shape[-1] :], **near)


def test_a_held_note_holds_its_code(codec: SpectralModel) -> None:
    tone = 0.3 * torch.sin(2 * torch.pi * 331 * torch.arange(64000) / 32000)[None, None]
    partials = codec.encode(tone + 1e-4 * torch.randn(tone.shape))[0][0, sines.TONES, 10:-10]
    used = partials[partials > 0]
    assert len(used.unique()) == 1
    hz, level = sines.partial_of(used[:1].numpy())
    assert abs(1200 * np.log2(hz[0] / 331)) < 13 and abs(level[0] - 20 * np.log10(0.3)) < 5


def test_nearest_sums_are_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    books = torch.randn(2, 12, 5, generator=generator)
    x, weight = torch.randn(9, 5, generator=generator), torch.rand(9, 5, generator=generator)
    found = nearest_sums(x, weight, books, beam=12)
    sums = books[0][:, None] + books[1][None]
    distance = (weight[:, None, None] * (x[:, None, None] - sums).square()).sum(-1).flatten(1)
    assert torch.equal(found[:, 0] * 12 + found[:, 1], distance.argmin(1))


def test_what_it_refuses(codec: SpectralModel) -> None:
    with pytest.raises(UserError, match="NaN"):
        codec.encode(torch.full((1, 1, 100), float("nan")))
    with pytest.raises(UserError, match="shape"):
        codec.encode(torch.zeros(1, 2, 100))
    with pytest.raises(UserError, match="shape"):
        codec.decode(torch.zeros(1, 5, 10, dtype=torch.long))
    with pytest.raises(UserError, match="0 to 2047"):
        codec.decode(torch.full((1, 4, 10), 2048))
    with pytest.raises(UserError, match="choose 1 to"):
        codec.set_num_codebooks(5)
    with pytest.raises(UserError, match="too few for partials"):
        builders.get_compression_model(OmegaConf.create({**CONFIG, "rvq": {"bins": 1024}}))


def test_it_loads_from_a_folder_in_float16(codec: SpectralModel, tmp_path: Path) -> None:
    state = {name: value.half().contiguous() for name, value in codec.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    OmegaConf.save(OmegaConf.create(CONFIG), tmp_path / "config.yaml")
    loaded = load_compression_model(tmp_path)
    assert isinstance(loaded, SpectralModel) and loaded.quantizer.basis.dtype == torch.float32
    original = notes()
    assert pitch_kept(loaded(original).x[0], original[0], 32000) > 0.9


def test_bent_codes(codec: SpectralModel) -> None:
    """Holes are silent, no codebook is needed by another, and others' codebooks can be read."""
    from audiocraft.explore import bend

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    codes, _ = codec.encode(notes())
    player = codec.bent_decoder([("itself", codec)])
    assert torch.equal(player.decode(codes), codec.decode(codes))
    assert torch.equal(player.decode(bend.drop(codes, [2, 3], 1, seeded())), codec.decode(codes[:, :2]))
    toneless = player.decode(bend.drop(codes, [sines.TONES], 1, seeded()))
    mean = player.decode(bend.drop(codes, [0, 1, 2, 3], 1, seeded()))
    assert (toneless - codec.decode(codes)).abs().max() > 0.1 and mean.isfinite().all()
    assert torch.equal(player.decode(bend.lookup(codes, 1, 2048, 1, seeded())), codec.decode(codes))
    other = bend.permute_codes(codes, [0, 1, 2, 3], 2048, 1, seeded())
    assert player.decode(other).isfinite().all()
    buzz = codec.bent_decoder(buzz=True).decode(codes)
    assert hum(buzz[0], notes()[0], 32000, 50) > 15 and buzz.shape == mean.shape
    with pytest.raises(UserError, match="--buzz goes with spectral codecs"):
        builders.get_debug_compression_model().bent_decoder(buzz=True)
    with pytest.raises(UserError, match="codes no spectra"):
        codec.bent_decoder([("mini", builders.get_debug_compression_model())])


def test_a_model_on_it_plays_streams_and_is_played_without_torch(codec: SpectralModel, tmp_path: Path) -> None:
    """Generation, stream and player make the same sound of the same codes."""
    from audiocraft.models.musicgen import MusicGen
    from audiocraft.onnx_player.export import export_player

    lm = tiny_lm(card=2048, dim=16, num_layers=1, norm_first=False)
    model = MusicGen("tiny", codec, lm, max_duration=2)
    model.set_generation_params(duration=1.5)
    whole = model.generate_unconditional(1, seed=3)
    assert whole.shape == (1, 1, 48000) and whole.abs().max() > 1e-4
    streamer, state = model.open_stream(seed=3)
    chunks = []
    while sum(chunk.shape[-1] for chunk in chunks) < 40000:
        chunks.append(streamer.read(state))
    streamed = torch.cat(chunks, dim=-1)[..., :40000]
    torch.testing.assert_close(streamed, whole[..., :40000], atol=1e-5, rtol=0)

    folder = export_player(model, tmp_path / "player", "none")
    out = tmp_path / "out"
    run_player(folder, "--duration", "1.5", "--seed", "3", "--out", str(out), check=True, timeout=120)
    played, rate = soundfile.read(next(out.glob("*.wav")), dtype="float32")
    assert rate == 32000
    expected = whole[0, 0].numpy()
    plain = np.abs(expected) < 0.9  # the player rounds off what is louder
    assert plain.mean() > 0.5 and np.abs(played - expected)[plain].max() < 1e-3
