"""What the commands do with files, one function a way in; and a process that feeds them one input after the other."""

import contextlib
import faulthandler
import functools
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import traceback
import typing as tp
from pathlib import Path

import torch

from audiocraft import train
from audiocraft.commands.folder import without_own_work
from audiocraft.commands.takes import load_takes
from audiocraft.data.audio import audio_blocks, audio_info, audio_read
from audiocraft.data.audio_dataset import AudioDataset
from audiocraft.data.music_dataset import MusicDataset
from audiocraft.data.scan import scan_folder
from audiocraft.data.token_cache import read_blocks
from audiocraft.errors import UserError
from audiocraft.explore.recipe import bend_codes, parse_recipe
from audiocraft.models import MusicGen
from audiocraft.models.export import FORMATS, export_model
from audiocraft.models.loaders import load_compression_model
from audiocraft.solvers.musicgen import MusicGenSolver
from audiocraft.solvers.settings import check_settings

from .inputs import SECRET, make, make_good, run_overrides

MOST_MEMORY = 3 << 30  # bytes that the process may grow by
MOST_WORK = 20.0  # seconds of processor time that an input may take
SECRET_VALUE = "kept-from-files"
SEGMENTS: dict[str, tp.Any] = {"segment_duration": 0.2, "num_samples": 6, "sample_rate": 16000, "channels": 1}


class Eater:
    """Takes inputs: each in a folder of its own, with others' files beside it.

    Args:
        good: folder of the good files.
        work: folder of this process.
    """

    def __init__(self, good: Path, work: Path) -> None:
        self.good, self.work, self.seed = good, work, 0
        self.canary, self.out, self.place = work / "canary", work / "out", work / "place"
        self.entries: dict[str, tp.Callable[[Path], None]] = {
            "audio": self.hear,
            "manifest": lambda path: self.cut(AudioDataset.from_meta(path, return_info=True, **SEGMENTS)),
            "texts": self.read_texts,
            "overrides": lambda path: check_settings(train.main.make_xp(json.loads(path.read_text())).cfg),
            "play": self.play,
            "codec": self.code,
            "export": self.export,
            "resume": self.resume,
            "begin": lambda folder: self.solver._continue_from(str(folder)),
            "recipe": self.bend,
            "takes": self.list_takes,
        }

    def hear(self, path: Path) -> None:
        """A folder is looked through, and what is said to be usable is read as training and bending do."""
        report = scan_folder(path.parent, complete=self.seed % 2 == 0, shortest=0)
        assert any(Path(meta.path).name == "fine.wav" for meta in report.meta), "the good file beside it is lost"
        assert all(0 < meta.duration < 1e9 and meta.sample_rate > 0 for meta in report.meta), report.meta
        info = audio_info(path)
        wav, rate = audio_read(path)
        assert wav.dim() == 2 and rate == info.sample_rate and torch.isfinite(wav).all()
        audio_read(path, seek_time=0.1, duration=0.2)
        blocks, _ = audio_blocks(path, 0.1)
        assert torch.equal(torch.cat([wav[:, :0], *blocks], dim=1), wav), "blocks are not the whole"
        list(read_blocks(path, 16000, 1))

    def cut(self, dataset: AudioDataset) -> None:
        """Segments are drawn and joined to a batch."""
        dataset.start_epoch(1)
        dataset.collater([dataset[index] for index in range(3)])

    def read_texts(self, folder: Path) -> None:
        """Segments have texts beside them."""
        more: dict[str, tp.Any] = {"return_info": True, "info_fields_required": self.seed % 2 == 0, "merge_text_p": 0.5}
        dataset = MusicDataset.from_path(folder, **more, **SEGMENTS)
        self.cut(dataset)
        dataset[0][1].to_condition_attributes()

    def play(self, folder: Path) -> None:
        """A model plays a little."""
        model = MusicGen.get_pretrained(folder, "cpu")
        model.set_generation_params(duration=0.1)
        model.generate_unconditional(1, seed=1)

    @torch.no_grad()
    def code(self, folder: Path) -> None:
        """A codec codes and decodes."""
        codec = load_compression_model(folder)
        codec.decode(*codec.encode(torch.zeros(1, codec.channels, 3200)))

    def export(self, folder: Path) -> None:
        """A model or run is exported, now and then once more to the same place."""
        for _ in range(2 if self.seed % 8 < 2 else 1):
            export_model(folder, self.out, format=FORMATS[self.seed % 2])

    def resume(self, folder: Path) -> None:
        """A run goes on from its checkpoint."""
        shutil.copy(folder / "checkpoint.th", self.solver.checkpoint_path)
        self.solver.restore()

    def bend(self, path: Path) -> None:
        """A recipe is read and applied."""
        recipe, amount = json.loads(path.read_text())
        bends = parse_recipe([tuple(pair) for pair in recipe], self.codec)
        generator = torch.Generator().manual_seed(0)
        bent = bend_codes(torch.randint(64, (1, 4, 20), generator=generator), bends, 64, amount, generator)
        self.codec.bent_decoder().decode(bent)

    def list_takes(self, folder: Path) -> None:
        """Takes are listed, and left out of training material."""
        load_takes(folder)
        without_own_work(scan_folder(folder).meta, folder.parent, folder.parent / "outputs")

    @functools.cached_property
    def codec(self) -> tp.Any:
        """The good codec."""
        return load_compression_model(self.good / "model")

    @functools.cached_property
    def solver(self) -> MusicGenSolver:
        """A run that has just been built."""
        xp = train.main.make_xp(run_overrides(self.good, self.work / "runs"))
        train.main.init_xp(xp)
        with xp.enter():
            return MusicGenSolver(xp.cfg)

    def feed(self, kind: str, seed: int) -> dict[str, str]:
        """Make one input, give it to its entry, and say what came of it: `read`, `refused` or a fault."""
        self.seed = seed
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.good / "songs", self.place / "beside")
        folder = self.place / "input"
        folder.mkdir()
        entry, path = make(kind, seed, self.good, folder, self.canary)
        if entry in ("resume", "begin"):
            _ = self.solver
        before = self._files()
        os.chdir(folder)
        found = self._outcome(entry, path)
        os.chdir(self.work)
        if self.canary.exists():
            found |= {"outcome": "fault", "says": "code was run"}
            self.canary.rmdir() if self.canary.is_dir() else self.canary.unlink()
        if changed := before ^ self._files():
            found |= {"outcome": "fault", "says": f"files were changed: {sorted(changed)[:3]}"}
        return {"entry": entry, **found}

    def _outcome(self, entry: str, path: Path) -> dict[str, str]:
        try:
            self.entries[entry](path)
        except UserError as error:
            text = str(error)
            bad = not text.strip() or "\n" in text or len(text) > 4000 or SECRET_VALUE in text
            return {"outcome": "fault" if bad else "refused", "says": text[:300]}
        except BaseException as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/audiocraft/" in frame.filename]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
            says = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return {"outcome": "fault", "says": f"{says} in {where}", "trace": traceback.format_exc()[-3000:]}
        return {"outcome": "read"}

    def _files(self) -> set[tuple[str, str]]:
        """All files around an input by their content, and the good ones by size and time."""
        near = [path for path in self.place.rglob("*") if path.is_file()]
        far = [(path, path.stat()) for path in self.good.rglob("*")]
        found = {(str(path), hashlib.sha1(path.read_bytes()).hexdigest()) for path in near}
        return found | {(str(path), f"{status.st_size} {status.st_mtime_ns}") for path, status in far}


def main() -> None:
    """Feed what stdin asks for, one `KIND SEED` a line; answer each with a line of JSON on the former stdout."""
    good, work = Path(sys.argv[1]), Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)  # tells where it was, then the process ends
    torch.set_num_threads(1)
    os.environ |= {SECRET: SECRET_VALUE, "HF_HUB_OFFLINE": "1", "AUDIOCRAFT_DORA_DIR": str(work / "runs")}
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)
    if not good.exists():
        make_good(good)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, resource.RLIM_INFINITY))
    eater = Eater(good, work)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, seed = line.split()
        signal.setitimer(signal.ITIMER_PROF, MOST_WORK)
        with contextlib.redirect_stdout(sys.stderr):
            found = eater.feed(kind, int(seed))
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
