"""How well a codec reconstructs a folder of audio: numbers, and a picture of one excerpt before and after.

    python scripts/codec_report.py //pretrained/mini_32khz FOLDER --out figure.png --json report.json

Distances: multi-scale log-mel distance in dB (lower is better) and SI-SDR in dB (higher is better). Two baselines say
what a distance is worth: silence, and each band held at its median over time, which knows the colour but no event.
"""

import argparse
import io
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from audiocraft.models.encodec import CompressionModel

BLOCK_SECONDS = 10.0


def measure(codec: "CompressionModel", folder: Path, seconds: float | None) -> tuple[dict[str, Any], list[Any]]:
    """Code every file of `folder` and compare.

    Args:
        seconds: how much of each file to take; None for all of it.

    Returns:
        The report, and per file (name, original [C, T], reconstruction [C, T]).

    Raises:
        UserError: there is no audio in the folder.
    """
    import torch

    from audiocraft.data.audio import audio_read
    from audiocraft.data.audio_dataset import scan_folder
    from audiocraft.data.audio_utils import convert_audio
    from audiocraft.metrics import codebook_usage

    rows, pairs, all_codes = [], [], []
    encode_seconds = decode_seconds = audio_seconds = 0.0
    for meta in scan_folder(folder).meta:
        wav, rate = audio_read(meta.path, 0.0, -1.0 if seconds is None else seconds)
        original = convert_audio(wav, rate, codec.sample_rate, codec.channels)[None]
        begin = time.perf_counter()
        with torch.no_grad():
            codes, scale = codec.encode(original)
            middle = time.perf_counter()
            estimate = codec.decode(codes, scale)[..., : original.shape[-1]]
        encode_seconds += middle - begin
        decode_seconds += time.perf_counter() - middle
        audio_seconds += original.shape[-1] / codec.sample_rate
        rows.append({"file": Path(meta.path).name, **_distances(estimate, original, codec.sample_rate)})
        pairs.append((Path(meta.path).name, original[0], estimate[0]))
        all_codes.append(codes)
    usage = codebook_usage(torch.cat(all_codes, dim=-1), codec.cardinality)
    report = {
        "seconds": round(audio_seconds, 1),
        "files": rows,
        "mean": {key: _mean(rows, key) for key in rows[0] if key != "file"},
        "codebooks": [{key: round(value, 4) for key, value in asdict(one).items()} for one in usage],
        "encode_times_real_time": round(audio_seconds / encode_seconds, 1),
        "decode_times_real_time": round(audio_seconds / decode_seconds, 1),
        "threads": torch.get_num_threads(),
    }
    return report, pairs


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    return round(sum(row[key] for row in rows) / len(rows), 3)


def _distances(estimate: "torch.Tensor", original: "torch.Tensor", sample_rate: int) -> dict[str, float]:
    """Means over blocks, so that a long file needs little memory and a quiet passage counts like a loud one."""
    import torch

    from audiocraft.metrics import log_mel_distance, mean_spectrum_distance, si_sdr

    size = int(BLOCK_SECONDS * sample_rate)
    values: list[torch.Tensor] = []
    for start in range(0, original.shape[-1], size):
        x, y = estimate[..., start : start + size], original[..., start : start + size]
        if y.shape[-1] < sample_rate and values:
            break  # a remainder too short to say anything
        values.append(
            torch.stack(
                [
                    log_mel_distance(x, y, sample_rate)[0],
                    si_sdr(x, y)[0],
                    log_mel_distance(torch.zeros_like(y), y, sample_rate)[0],
                    mean_spectrum_distance(y, sample_rate)[0],
                ]
            )
        )
    means = torch.stack(values).mean(0).tolist()
    names = ("log_mel_distance", "si_sdr", "silence_log_mel_distance", "median_log_mel_distance")
    return {name: round(value, 3) for name, value in zip(names, means)}


def draw(pair: Any, codec: "CompressionModel", title: str, out: Path, start: float, length: float) -> None:
    """Spectrograms of an excerpt, original above reconstruction, and the wave of both below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np
    from PIL import Image

    from audiocraft.utils.files import atomic_path

    name, original, estimate = pair
    rate = codec.sample_rate
    first = min(int(start * rate), max(0, original.shape[-1] - int(length * rate)))
    excerpts = [wav[0, first : first + int(length * rate)].numpy() for wav in (original, estimate)]
    figure, axes = plt.subplots(3, 1, figsize=(11, 9), sharex=True, height_ratios=[3, 3, 1.4], constrained_layout=True)
    reference = 0.0
    for axis, wav, label in zip(axes, excerpts, ("original", "reconstruction")):
        power, _, _, image = axis.specgram(
            wav, NFFT=1024, noverlap=768, Fs=rate, cmap="magma", scale="dB", vmin=-130, vmax=-40
        )
        reference = max(reference, float(10 * np.log10(power.max() + 1e-20)))
        image.set_clim(reference - 80, reference)
        axis.set(ylabel=f"{label}\nkHz", yticks=range(0, rate // 2 + 1, 4000))
        axis.set_yticklabels([f"{tick // 1000}" for tick in range(0, rate // 2 + 1, 4000)])
    seconds = np.arange(len(excerpts[0])) / rate
    for wav, label, colour in zip(excerpts, ("original", "reconstruction"), ("0.65", "tab:red")):
        axes[2].plot(seconds, wav, label=label, color=colour, linewidth=0.4)
    axes[2].set_xlim(0, seconds[-1])
    axes[2].set(xlabel=f"seconds from {first / rate:.1f} s of {name}", ylabel="wave")
    for line in axes[2].legend(loc="upper right", fontsize=8).get_lines():
        line.set_linewidth(2)
    axes[0].set_title(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80)
    plt.close(figure)
    with atomic_path(out) as file:
        # Noise hardly compresses: a palette keeps the file small enough to travel with the codec.
        Image.open(buffer).convert("RGB").quantize(64).save(file, optimize=True)


def text(report: dict[str, Any]) -> str:
    """The report as a table."""
    lines = [f"{'file':32} {'log-mel dB':>10} {'SI-SDR dB':>10} {'silence':>8} {'median':>8}"]
    for row in [*report["files"], {"file": "mean", **report["mean"]}]:
        values = f"{row['log_mel_distance']:10.2f} {row['si_sdr']:10.2f}"
        baselines = f"{row['silence_log_mel_distance']:8.2f} {row['median_log_mel_distance']:8.2f}"
        lines.append(f"{row['file']:32} {values} {baselines}")
    for index, one in enumerate(report["codebooks"], start=1):
        lines.append(f"codebook {index}: {one['used']} of {one['bins']} codes used, perplexity {one['perplexity']:.0f}")
    speed = f"encoding {report['encode_times_real_time']} ×, decoding {report['decode_times_real_time']} × real time"
    return "\n".join([*lines, f"{speed} with {report['threads']} threads, over {report['seconds']:.0f} s"])


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print, write; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", help="as compression_model_checkpoint: //pretrained/NAME, a folder, a run")
    parser.add_argument("folder", type=Path, help="audio the codec never saw")
    parser.add_argument("--out", type=Path, help="figure to write (.png)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--seconds", type=float, help="take only the first seconds of each file")
    parser.add_argument(
        "--excerpt", type=float, nargs=2, default=(10.0, 6.0), metavar=("START", "LENGTH"), help="in seconds"
    )
    parser.add_argument("--file", type=int, default=0, help="which file the figure shows, from 0")
    options = parser.parse_args(argv)
    from audiocraft.errors import UserError
    from audiocraft.models.loaders import load_compression_model
    from audiocraft.utils.files import atomic_path

    try:
        codec = load_compression_model(options.codec)
        report, pairs = measure(codec, options.folder, options.seconds)
        print(text(report))
        name = Path(options.codec).name
        if options.json:
            with atomic_path(options.json) as file:
                file.write_text(json.dumps({"codec": name, **report}, indent=1) + "\n", encoding="utf-8")
        if options.out:
            pair = pairs[options.file % len(pairs)]
            draw(pair, codec, f"{name} on audio it never saw", options.out, *options.excerpt)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
