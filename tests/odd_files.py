"""Files as people have them, made by code; what code cannot make lies in `cases`."""

import shutil
import struct
from pathlib import Path

import av
import numpy as np
import soundfile

CASES = Path(__file__).parent / "cases"
RATE = 22050


def encode(path, codec, wav, rate, options=None, to=None):
    """Write [C, T] through FFmpeg's encoders; `options` go to the encoder, `to` to the container."""
    if codec == "vorbis":  # FFmpeg's own encoder is for stereo alone
        soundfile.write(path, wav.T.numpy(), rate, format="OGG", subtype="VORBIS")
        return
    layout = {1: "mono", 2: "stereo"}[wav.shape[0]]
    with av.open(f"file:{path}", "w", options=to or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.layout = layout
        stream.codec_context.bit_rate = int((options or {}).get("b", 64000 * wav.shape[0]))
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate, frame_size=1024)
        frame = av.AudioFrame.from_ndarray(wav.numpy().copy(), format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.pts = 0
        for given in (frame, None):
            for part in resampler.resample(given):
                container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def noise(seconds: float, channels: int = 1, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Tones that rise in noise, [T, C]: any shift in time shows, and every decoder has something to do."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    tones = [0.3 * np.sin(2 * np.pi * (200 + 40 * time + 90 * one) * time) for one in range(channels)]
    return (np.stack(tones, axis=1) + 0.05 * rng.standard_normal((len(time), channels))).astype(np.float32)


def patched(data: bytes, place: int, form: str, value: int) -> bytes:
    """The bytes with a number written into them."""
    out = bytearray(data)
    struct.pack_into(form, out, place, value)
    return bytes(out)


def make_cases(folder: Path) -> None:
    """One file of each kind that a reader stumbles over."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES.iterdir():
        shutil.copy(case, folder / case.name)
    soundfile.write(
        folder / "integers_in_float.wav", noise(1.0) / np.abs(noise(1.0)).max() * 2929, RATE, subtype="FLOAT"
    )
    soundfile.write(folder / "whole.flac", noise(6.0), RATE)
    # The count of samples is 36 bits in the first block; an encoder into a pipe leaves them 0.
    whole = (folder / "whole.flac").read_bytes()
    assert whole[:4] == b"fLaC" and int.from_bytes(whole[22:26], "big") == 6 * RATE
    (folder / "streamed.flac").write_bytes(patched(whole, 22, ">I", 0))
    (folder / "whole.flac").unlink()
    soundfile.write(folder / "unfinished.wav", noise(2.0), RATE)
    header = (folder / "unfinished.wav").read_bytes()
    assert header[36:40] == b"data"
    (folder / "unfinished.wav").write_bytes(patched(patched(header, 40, "<I", 0), 4, "<I", 0))
    soundfile.write(folder / "take.wave", noise(4.0, rate=16000), 16000, format="WAVEX", subtype="PCM_32")
    shutil.copy(folder / "take.stem.mp4", folder / "12:30.m4a")
