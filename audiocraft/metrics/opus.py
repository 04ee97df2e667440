"""Opus, the reference that a codec of few kilobits is held against, through PyAV (FFmpeg with libopus).

Packets are kept in memory. The bit rate is constant: asked for 6 kb/s, a variable rate spends 4.9 on jungle, and the
comparison would be with something else than it says. Audio of another rate than Opus's 48 kHz is resampled both ways.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ..data.audio_utils import resample
from ..errors import UserError

RATE = 48000
_LAYOUTS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True)
class OpusStream:
    """What `opus_encode` made: `packets` of `frame` samples at 48 kHz each, and how to get the input's samples back.

    `header` is the stream's OpusHead (RFC 7845); `samples` the input's length at `sample_rate` Hz.
    """

    packets: list[bytes]
    header: bytes
    frame: int
    channels: int
    samples: int
    sample_rate: int

    @property
    def delay(self) -> int:
        """Samples at 48 kHz by which the decoder's output lags: the header's pre-skip."""
        return int.from_bytes(self.header[10:12], "little")

    @property
    def bits(self) -> int:
        """Bits in all packets; a container would add its own."""
        return 8 * sum(map(len, self.packets))

    @property
    def bits_per_second(self) -> float:
        """Of the time that the packets span, which is that of the input filled up to whole frames of 20 ms."""
        return self.bits * RATE / (len(self.packets) * self.frame)


def check_opus() -> None:
    """Raises UserError where PyAV's FFmpeg has no libopus, or only half of it."""
    import av

    try:
        av.Codec("libopus", "w")
        av.Codec("libopus", "r")
    except ValueError as error:  # PyAV's UnknownCodecError
        raise UserError(
            f"PyAV {av.__version__} was built without libopus; install its wheel (pip install av) or leave Opus out "
            "(--no-opus)"
        ) from error


def opus_encode(wav: torch.Tensor, sample_rate: int, bit_rate: int) -> OpusStream:
    """Encode a wave at a constant bit rate.

    Args:
        wav: [C, T] float32, mono or stereo, on any device.
        sample_rate: Hz.
        bit_rate: bits per second over all channels; Opus knows 500 to 512000 for one.

    Raises:
        UserError: no libopus, more than two channels, a bit rate it does not know.
    """
    check_opus()
    channels, samples = wav.shape
    if channels not in _LAYOUTS or samples == 0:
        raise UserError(
            f"Opus takes mono or stereo with at least one sample here, not {list(wav.shape)}; use --no-opus"
        )
    import av

    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = RATE, _LAYOUTS[channels], "flt"
    encoder.bit_rate = bit_rate
    encoder.options = {"vbr": "off"}
    try:
        if bit_rate <= 0:  # FFmpeg would take a rate of its own
            raise ValueError
        encoder.open()
    except ValueError as error:  # PyAV's for an invalid argument, too
        raise UserError(f"Opus does not know a bit rate of {bit_rate}; take 6000 to 128000") from error
    frame, header = encoder.frame_size, bytes(encoder.extradata)
    # A little more than there is: of one sample at 96 kHz nothing would be left at 48.
    wav = resample(F.pad(wav.float().cpu(), (0, 1 + sample_rate // RATE)), sample_rate, RATE)
    # The last samples leave the encoder only when as many as it holds back have followed.
    behind = int.from_bytes(header[10:12], "little")
    wav = F.pad(wav, (0, -(wav.shape[1] + behind) % frame + behind))
    packets: list[bytes] = []
    for number, block in enumerate(wav.split(frame, dim=1)):
        interleaved = block.T.reshape(1, -1).contiguous().numpy()
        given: Any = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=_LAYOUTS[channels])
        given.sample_rate, given.pts = RATE, number * frame
        packets += [bytes(packet) for packet in encoder.encode(given)]
    packets += [bytes(packet) for packet in encoder.encode(None)]
    return OpusStream(packets, header, frame, channels, samples, sample_rate)


def opus_decode(stream: OpusStream) -> torch.Tensor:
    """The wave [C, T] of a stream: of the input's rate and length, and in time with it.

    Raises:
        UserError: no libopus.
    """
    check_opus()
    import av

    decoder: Any = av.CodecContext.create("libopus", "r")
    decoder.extradata = stream.header
    decoder.sample_rate, decoder.layout = RATE, _LAYOUTS[stream.channels]
    parts = []
    for packet in [*map(av.Packet, stream.packets), None]:
        for frame in decoder.decode(packet):
            interleaved = torch.from_numpy(frame.to_ndarray()).reshape(-1, stream.channels)
            parts.append(interleaved.short() if frame.format.name == "s16" else interleaved)
    wav = torch.cat(parts).T.float() / (2**15 if parts[0].dtype == torch.int16 else 1)
    # FFmpeg drops the delay by itself when the header names it; what it left of it goes here, whichever FFmpeg this is.
    dropped = len(stream.packets) * stream.frame - wav.shape[1]
    wav = resample(wav[:, max(0, stream.delay - dropped) :].contiguous(), RATE, stream.sample_rate)
    return F.pad(wav, (0, max(0, stream.samples - wav.shape[1])))[:, : stream.samples]
