"""EnCodec on signals of any length, block by block, in bounded memory and with the result of the whole signal.

`encode_blocks` and `decode_blocks` turn one stream into another. `BlockEncoder` and `BlockDecoder` are the same for
callers that push: the state is an object of the caller's. `EncodecModel` itself uses them for long input.
"""

import typing as tp

import torch

from ..errors import UserError
from ..modules.chunked import can_stream, plan
from ..utils.device import full_float32

if tp.TYPE_CHECKING:
    from .encodec import EncodecModel

WHOLE_SECONDS = 8.0
"""Up to this much audio (over the batch) is coded in one go. Beyond it blocks are faster, too, as they stay near the
caches."""

_ELEMENTS_PER_BLOCK = {"cpu": 2**22, "cuda": 2**26, "mps": 2**24}


def block_samples(model: "EncodecModel", batch: int = 1) -> int:
    """Samples per block and clip, a multiple of the hop, at least one second: what keeps the widest activation near 16
    MiB on a CPU."""
    device = next(model.parameters()).device.type
    width = max(1, tp.cast(int, model.encoder.n_filters)) * batch
    samples = max(model.sample_rate, _ELEMENTS_PER_BLOCK.get(device, 2**22) // width)
    return samples // model.hop_length * model.hop_length


def needs_blocks(model: "EncodecModel", batch: int, samples: int) -> bool:
    """Whether clips of `samples` samples are coded in blocks: long ones, outside training and autograd."""
    if model.training or torch.is_grad_enabled() or batch * samples <= WHOLE_SECONDS * model.sample_rate:
        return False
    return samples > block_samples(model, batch) and can_stream(model)


class BlockEncoder:
    """wav → codes on streams. Weights are those at construction.

    Raises UserError for a codec that needs to know the whole signal first (time_group_norm).
    """

    def __init__(self, model: "EncodecModel"):
        self.quantizer = model.quantizer
        self.stage = plan(model.encoder)

    def start(self) -> tp.Any:
        """State of a new stream."""
        return self.stage.start()

    @torch.no_grad()
    def push(self, state: tp.Any, wav: torch.Tensor, last: bool = False) -> torch.Tensor:
        """wav [B, C, t] (t may be 0) → the codes [B, K, f] that are final now, f may be 0."""
        with full_float32():
            return self.quantizer.encode(self.stage.push(state, wav, last))


class BlockDecoder:
    """codes → wav on streams. Weights are those at construction.

    `half`: round the LSTM's recurrent weights to float16 (x86 only).
    """

    def __init__(self, model: "EncodecModel", half: bool = False):
        self.quantizer = model.quantizer
        self.channels = model.channels
        self.stage = plan(model.decoder, half)

    def start(self) -> tp.Any:
        """State of a new stream."""
        return self.stage.start()

    @torch.no_grad()
    def push(self, state: tp.Any, codes: torch.Tensor, last: bool = False) -> torch.Tensor:
        """codes [B, K, f] (f may be 0) → the wav [B, C, t] that is final now."""
        with full_float32():
            return self.stage.push(state, self.quantizer.decode(codes), last)


def _resize(blocks: tp.Iterable[torch.Tensor], size: int) -> tp.Iterator[tuple[torch.Tensor, bool]]:
    """Cut blocks [..., t] to at most `size`, drop empty ones, and mark the last. Raises UserError if there is none."""
    held: torch.Tensor | None = None
    for block in blocks:
        for part in block.split(size, dim=-1):
            if part.shape[-1] == 0:
                continue
            if held is not None:
                yield held, False
            held = part
    if held is None:
        raise UserError("there is nothing to code: the stream is empty; give at least one sample or frame")
    yield held, True


def encode_blocks(model: "EncodecModel", wavs: tp.Iterable[torch.Tensor]) -> tp.Iterator[torch.Tensor]:
    """Stream of wav [B, C, t], t of any size → stream of codes [B, K, f]; joined, they are the codes of the joined
    input.

    Raises UserError for an empty stream, a wrong shape, or a codec that needs to know the whole signal first.
    """
    if model.renormalize:
        raise UserError("a codec with renormalize=true scales by the loudness of the whole file; use encode() on it")
    encoder = BlockEncoder(model)
    state = encoder.start()
    for wav, last in _resize(wavs, block_samples(model)):
        model.check_wav(wav)
        codes = encoder.push(state, wav, last)
        if codes.shape[-1]:
            yield codes


def decode_blocks(
    model: "EncodecModel", codes: tp.Iterable[torch.Tensor], scale: torch.Tensor | None = None
) -> tp.Iterator[torch.Tensor]:
    """Stream of codes [B, K, f], f of any size → stream of wav [B, C, t]; joined, F * hop_length samples.

    Raises UserError for an empty stream, a wrong shape or codes that do not exist.
    """
    decoder = BlockDecoder(model)
    state = decoder.start()
    for block, last in _resize(codes, block_samples(model) // model.hop_length):
        model.quantizer.check_codes(block)
        wav = decoder.push(state, block, last)
        if wav.shape[-1]:
            yield model.postprocess(wav, scale)


def encode_long(model: "EncodecModel", wav: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """Codes [B, K, F] of wav [B, C, T], divided by scale [B, 1] on the way."""
    encoder = BlockEncoder(model)
    state = encoder.start()
    codes = []
    for block, last in _resize([wav], block_samples(model, len(wav))):
        codes.append(encoder.push(state, model.normalize(block, scale), last))
    return torch.cat(codes, dim=-1)


def decode_long(
    model: "EncodecModel", codes: torch.Tensor, scale: torch.Tensor | None, decoder: BlockDecoder | None = None
) -> torch.Tensor:
    """wav [B, C, F * hop_length] of codes [B, K, F], times scale [B, 1]; `decoder`: the model's, made before."""
    decoder = decoder or BlockDecoder(model)
    state = decoder.start()
    out: torch.Tensor | None = None
    done = 0
    for block, last in _resize([codes], block_samples(model, len(codes)) // model.hop_length):
        wav = model.postprocess(decoder.push(state, block, last), scale)
        if out is None:
            out = wav.new_empty(len(codes), model.channels, codes.shape[-1] * model.hop_length)
        out[..., done : done + wav.shape[-1]] = wav
        done += wav.shape[-1]
    assert out is not None and done == out.shape[-1]
    return out
