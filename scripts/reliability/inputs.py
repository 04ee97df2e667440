"""What is fed: good files of every kind, made once, and damaged ones, each made from its seed alone."""

import gzip
import json
import os
import pickle
import random
import shutil
import struct
import typing as tp
import zipfile
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
import yaml
from benchmarks import ROOT

from audiocraft import train
from audiocraft.data.manifest import save_audio_meta
from audiocraft.data.scan import scan_folder
from audiocraft.models.export import export_model

from . import damage

GOLDEN = ROOT / "tests" / "golden"
SOUNDFILE = {"wav": "PCM_16", "u8.wav": "PCM_U8", "24.wav": "PCM_24", "ima.wav": "IMA_ADPCM", "aiff": "PCM_16"}
SOUNDFILE |= {"au": "PCM_16", "caf": "PCM_16", "flac": "PCM_16", "w64": "PCM_16", "rf64": "PCM_16", "voc": "PCM_16"}
PYAV = {"m4a": "aac", "mp4": "alac", "opus": "libopus", "ogg": "vorbis", "mka": "libmp3lame", "webm": "libopus"}
PYAV |= {"aac": "aac", "mp3": "libmp3lame", "wma": "wmav2", "mkv": "ac3", "mov": "pcm_s16le", "f32.wav": "pcm_f32le"}
SECRET = "MICRO_MUSICGEN_SECRET"  # an environment variable that no file may ask for
FACTS = {"title": "x", "bpm": 120, "key": "C", "genre": "dub", "keywords": ["a", "b"], "description": "text"}
TAKE = {"file": "take_0001.wav", "seed": 1, "model": "m", "settings": {"top_k": 250}, "seconds": 1.0}
KEYS: tuple[str, ...] = ("optim.lr", "dataset.batch_size", "model/lm/model_scale", "solver", "dset")
KEYS += ("transformer_lm.dim", "device", "x.y", "seanet.ratios", "optim.optimizer", "generate.lm.temp", "conditioner")
KEYS += ("label", "codebooks_pattern", "dora.dir")
BENDS = ("drop", "swap", "shuffle", "hold", "stutter", "reverse", "permute-codes", "rate")
AMOUNTS: tuple[str, ...] = ("0.1", "5f", "all", "1e9", "99999999f", "½", "0.1@", "2f@1,2", "0.2@9", "all@0", "1:2")
AMOUNTS += ("1,2,3,4", "1:1", "20")
Input = tuple[str, Path]  # which entry takes it, and with what


def make_good(folder: Path) -> None:
    """Sound in every container, models in every layout, a run, manifests, takes."""
    for name in ("audio", "songs", "hf", "model", "takes"):
        (folder / name).mkdir(parents=True)
    time_s = np.arange(8000) / 16000
    wave = 0.3 * np.sin(2 * np.pi * 220 * time_s) + 0.05 * np.random.default_rng(0).standard_normal(8000)
    for ending, subtype in SOUNDFILE.items():
        soundfile.write(folder / "audio" / f"tone.{ending}", wave, 16000, subtype, format=ending[-4:].split(".")[-1])
    for ending, codec in PYAV.items():
        _write_av(folder / "audio" / f"tone.{ending}", codec, wave)
    for index in range(3):
        soundfile.write(folder / "songs" / f"{index}.wav", wave, 16000)
        (folder / "songs" / f"{index}.json").write_text(json.dumps(FACTS))
    save_audio_meta(folder / "manifest" / "data.jsonl", scan_folder(folder / "songs", complete=True).meta)
    shutil.copy(folder / "songs" / "0.wav", folder / "takes" / "take_0001.wav")
    (folder / "takes" / "take_0001.json").write_text(json.dumps(TAKE))
    for name in ("lm_none/state_dict.bin", "codec_ac/compression_state_dict.bin"):
        shutil.copy(GOLDEN / name, folder / "model")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / "codec_hf" / name, folder / "hf")
    export_model(folder / "model", folder / "plain", format="safetensors")
    shutil.move(train.run(run_overrides(folder, folder / "outputs")).folder, folder / "run")


def run_overrides(folder: Path, outputs: Path) -> list[str]:
    """A language model's run of one step on the good files."""
    sources = [f"datasource.{split}={folder}/manifest" for split in ("train", "valid", "evaluate", "generate")]
    return [
        *("solver=musicgen/debug", *sources, f"compression_model_checkpoint={folder}/model", f"dora.dir={outputs}"),
        *("transformer_lm.dim=16", "transformer_lm.num_heads=2", "transformer_lm.num_layers=1"),
        *("transformer_lm.card=64", "dataset.segment_duration=0.5", "dataset.valid.num_samples=1", "optim.epochs=1"),
        *("optim.updates_per_epoch=1", "generate.every=null", "logging.progress=off", "logging.level=ERROR"),
    ]


def _write_av(path: Path, codec: str, wave: np.ndarray) -> None:
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream: tp.Any = container.add_stream(codec, rate=48000, layout="stereo", options={"strict": "experimental"})
        stream.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        resampler = av.AudioResampler(stream.format, stream.layout, 48000, stream.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))


def make(kind: str, seed: int, good: Path, folder: Path, canary: Path) -> Input:
    """Make the input of a seed in an empty folder; one that runs code leaves the file `canary`."""
    return MAKERS[kind](random.Random(f"{kind} {seed}"), good, folder, canary)


def _audio(rng: random.Random, good: Path, folder: Path, canary: Path) -> Input:
    files = sorted((good / "audio").iterdir())
    chosen, *others = rng.choices(files, k=3)
    content = damage.data(chosen.read_bytes(), rng, [path.read_bytes() for path in others])
    if rng.random() < 0.04:
        lists = ("#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n", "RIFF{}WAVE")
        content = rng.choice(lists).format(rng.choice(("/etc/hostname", "http://x.invalid/x", "fine.wav"))).encode()
    path = folder / f"odd{rng.choice((chosen, chosen, chosen, chosen, others[0])).suffix}"
    path.write_bytes(content)
    shutil.copy(good / "songs" / "0.wav", folder / "fine.wav")
    return "audio", path


def _manifest(rng: random.Random, good: Path, folder: Path, canary: Path) -> Input:
    lines = [json.loads(line) for line in (good / "manifest" / "data.jsonl").read_text().splitlines()]
    if rng.random() < 0.6:
        rng.choice(lines)[rng.choice(("weight", "amplitude", "info_path"))] = damage.value(rng)
        lines = damage.tree(lines, rng)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    content = damage.text(text, rng) if rng.random() < 0.4 else text.encode()
    content = gzip.compress(content, mtime=0) if (zipped := rng.random() < 0.3) else content
    path = folder / ("data.jsonl.gz" if zipped else "data.jsonl")
    path.write_bytes(damage.data(content, rng) if rng.random() < (0.6 if zipped else 0.2) else content)
    return "manifest", path


def _yaml(text: str, rng: random.Random, canary: Path) -> str:
    if rng.random() < 0.6:
        content = damage.tree(yaml.safe_load(text), rng)
        return yaml.safe_dump(content) if rng.random() < 0.9 else json.dumps(content)
    bomb = "b0: &b0 [x]\n" + "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 9))
    codes = [f"x: !!python/object/apply:os.system ['touch {canary}']\n", "x: &a [*a]\n", bomb]
    codes += [f"device: ${{oc.env:{SECRET}}}\n", f"{SECRET}: ${{oc.decode:${{oc.env:{SECRET}}}}}\n"]
    damaged = damage.text(text, rng).decode("utf-8", "surrogateescape")
    return damaged + rng.choice(codes) if rng.random() < 0.3 else damaged


def _config(rng: random.Random, good: Path, folder: Path, canary: Path) -> Input:
    way = rng.randrange(20)
    if way < 4:
        solver, words = rng.choice(("solver=musicgen/debug", "solver=compression/debug")), ["dset=audio/mine"]
        if way:
            odd = [f"{rng.choice(KEYS)}={damage.value(rng)}" for _ in range(2)]
            words = [rng.choice(("", "", "", "+", "~", "++")) + word for word in odd]
        mine = folder / "config" / "dset" / "audio" / "mine.yaml"
        mine.parent.mkdir(parents=True)
        text = _yaml((ROOT / "config" / "dset" / "audio" / "example.yaml").read_text(), rng, canary)
        mine.write_text("{}" if way else text, encoding="utf-8", errors="surrogateescape")
        (folder / "overrides.json").write_text(json.dumps([solver, *words]))
        return "overrides", folder / "overrides.json"
    layout, name = ("hf", "config.json") if way < 7 else ("plain", rng.choice(("config.yaml", "codec/config.yaml")))
    if way >= 14:
        layout, name = "model", rng.choice(("state_dict.bin", "compression_state_dict.bin"))
    shutil.copytree(good / layout, folder / "model")
    path = folder / "model" / name
    if layout == "model":
        package = torch.load(path, weights_only=True)
        torch.save({**package, "xp.cfg": _yaml(package["xp.cfg"], rng, canary)}, path)
    else:
        path.write_text(_yaml(path.read_text(), rng, canary), encoding="utf-8", errors="surrogateescape")
    return "codec" if layout == "hf" else rng.choice(("play", "play", "export")), folder / "model"


class Evil:
    """What runs code when it is unpickled, which then leaves a file."""

    def __init__(self, rng: random.Random, canary: Path) -> None:
        code = f"open({str(canary)!r}, 'w')"
        self._ways = [(os.system, (f"touch {canary}",)), (exec, (code,)), (eval, (code,)), (Path.touch, (canary,))]
        self._way = rng.choice([*self._ways, (open, (str(canary), "w")), (os.mkdir, (str(canary),))])

    def __reduce__(self) -> tuple[tp.Any, ...]:
        return self._way


def _odd(rng: random.Random) -> tp.Any:
    """A value, or a tensor that is hardly what is looked for."""
    tensors = [torch.zeros(0), torch.zeros(()), torch.zeros(1).expand(2**40), torch.zeros(3, 4).to_sparse()]
    tensors += [torch.full((4, 4), float("nan")), torch.full((64,), 3e38), torch.nn.Parameter(torch.zeros(2, 3).t())]
    tensors += [torch.zeros(2, dtype=kind) for kind in (torch.int64, torch.bool, torch.float16, torch.complex64)]
    return rng.choice(tensors) if rng.random() < 0.4 else damage.value(rng)


def _checkpoint(rng: random.Random, good: Path, folder: Path, canary: Path) -> Input:
    layout = rng.choice(("model", "model", "plain", "run", "run"))
    shutil.copytree(good / layout, folder / "model")
    names = {"model": ("state_dict.bin", "compression_state_dict.bin"), "run": ("checkpoint.th",)}
    path = folder / "model" / rng.choice(names.get(layout, ("model.safetensors", "codec/model.safetensors")))
    content = path.read_bytes()
    path.unlink()  # a run's numbered checkpoint has the same bytes
    way = rng.random()
    if layout == "plain" and way < 0.7:
        size = struct.unpack("<Q", content[:8])[0]
        header = json.dumps(damage.tree(json.loads(content[8 : 8 + size]), rng)).encode()
        header = header if way < 0.5 else damage.data(content[8 : 8 + size], rng)
        path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + size :])
    elif layout == "plain" or way < 0.25:
        path.write_bytes(damage.data(content, rng))
    else:
        path.write_bytes(content)
        package = torch.load(path, weights_only=True)
        if way < 0.6:
            torch.save(damage.tree(package, rng, _odd), path)
        elif way < 0.75:
            _repack(path, rng, lambda part: damage.data(part, rng))
        elif way < 0.9:
            package = damage.tree(package, rng, lambda rng: Evil(rng, canary))
            torch.save(package, path, _use_new_zipfile_serialization=way < 0.85)
        else:
            evil = pickle.dumps(Evil(rng, canary), rng.randrange(6))
            _repack(path, rng, lambda part: evil) if way < 0.95 else path.write_bytes(evil)
    return rng.choice(
        ("resume", "begin", "export") if layout == "run" else ("play", "play", "export")
    ), folder / "model"


def _repack(path: Path, rng: random.Random, change: tp.Callable[[bytes], bytes]) -> None:
    """Change the bytes in one part of a zip, mostly the pickle, and give it sums that fit."""
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    chosen = rng.choice([*[name for name in parts if name.endswith("data.pkl")] * 3, rng.choice(list(parts))])
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name), change(part) if name == chosen else part)


def _take(rng: random.Random, good: Path, folder: Path, canary: Path) -> Input:
    if rng.random() < 0.25:
        recipe = [(rng.choice(BENDS), rng.choice((*AMOUNTS, *damage.TEXTS))) for _ in range(rng.randint(1, 3))]
        (folder / "recipe.json").write_text(json.dumps([recipe, rng.random()]))
        return "recipe", folder / "recipe.json"
    places = {"texts": ("songs", "0.json"), "export": ("plain", "export.json"), "takes": ("takes", "take_0001.json")}
    entry = rng.choices(list(places), (4, 1, 4))[0]
    shutil.copytree(good / places[entry][0], folder / "given")
    path = folder / "given" / places[entry][1]
    text = path.read_text()
    text = json.dumps(damage.tree(json.loads(text), rng)) if rng.random() < 0.6 else text
    content = damage.text(text, rng) if rng.random() < 0.4 else text.encode()
    path.write_bytes(damage.data(content, rng) if rng.random() < 0.2 else content)
    return entry, folder / "given"


MAKERS = {"audio": _audio, "manifest": _manifest, "config": _config, "checkpoint": _checkpoint, "take": _take}
