"""The hub, played by a server on this machine: repositories of all layouts, and what is missing or cut short."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from audiocraft.cli import app
from audiocraft.errors import UserError
from audiocraft.models import loaders
from audiocraft.models.export import export_model

COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """`/USER/REPO/resolve/main/FILE` out of a folder."""

    root: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts == [""]:
            return self._send(200, b"", {})
        repo, file = self.root / "/".join(parts[:2]), "/".join(parts[4:])
        if not repo.is_dir():
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if not (repo / file).is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = (repo / file).read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{len(content):040x}"', "Content-Length": str(len(content))}
        return self._send(200, content if body else b"", headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """Folder of the repositories, address, and what was asked for."""
    handler = type("Handler", (Hub,), {"root": tmp_path / "hub", "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler.root, f"http://127.0.0.1:{server.server_address[1]}", handler.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


SCRIPT = """
import json, sys
from audiocraft.errors import UserError
from audiocraft.models import MusicGen, loaders

told = {}
for kind, name in json.loads(sys.argv[1]):
    try:
        if kind == "codec":
            told[f"{kind} {name}"] = loaders.load_compression_model(name).num_codebooks
        else:
            model = MusicGen.get_pretrained(name, "cpu")
            model.set_generation_params(duration=0.2, use_sampling=False)
            told[f"{kind} {name}"] = model.generate_unconditional(1, return_tokens=True)[1].sum().item()
    except UserError as error:
        told[f"{kind} {name}"] = str(error)
print(json.dumps(told))
"""


def test_repositories(hub: tuple[Path, str, list[str]], run_folder: Path, golden: Path, tmp_path: Path) -> None:
    root, address, asked = hub
    own = export_model("cafe0123", root / "some" / "own", format="safetensors")
    export_model("cafe0123", root / "some" / "peer")
    shutil.copytree(own / "codec", root / "some" / "codec")
    shutil.copytree(golden / "codec_hf", root / "some" / "hf-codec")
    shutil.copytree(root / "some" / "peer", root / "some" / "cut")
    cut = root / "some" / "cut" / "state_dict.bin"
    cut.write_bytes(cut.read_bytes()[:100_000])
    shutil.copytree(own, root / "some" / "no-weights")
    (root / "some" / "no-weights" / "model.safetensors").unlink()
    shutil.copytree(own, root / "some" / "no-codec")
    shutil.rmtree(root / "some" / "no-codec" / "codec")
    (root / "some" / "empty").mkdir()
    # As musicgen-small is on the hub: a file of transformers beside those of the peer.
    (root / "some" / "peer" / "config.json").write_text('{"model_type": "musicgen"}')
    (root / "some" / "peer" / "model.safetensors").write_bytes(b"of transformers")

    models = ["some/own", "some/peer", "some/cut", "some/no-weights", "some/no-codec", "some/empty", "some/nothing"]
    codecs = ["some/own", "some/peer", "some/codec", "//pretrained/some/hf-codec", "some/empty"]
    names = [("model", name) for name in models] + [("codec", name) for name in codecs]
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    environment.pop("AUDIOCRAFT_CACHE_DIR", None)

    def load(names: list[tuple[str, str]]) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(names)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    told = load(names)
    assert isinstance(told["model some/own"], int) and told["model some/own"] == told["model some/peer"]
    for name in codecs[:-1]:
        assert told[f"codec {name}"] == 4, told
    for name, says in {
        "model some/cut": "models--some--cut to have it fetched again",
        "model some/no-weights": "some/no-weights on the hub has no model.safetensors; give",
        "model some/no-codec": "some/no-codec on the hub has no",
        "model some/empty": "some/empty on the hub has no state_dict.bin",
        "model some/nothing": "there is no repository some/nothing on the hub",
        "codec some/empty": "some/empty on the hub has no compression_state_dict.bin",
    }.items():
        assert says in str(told[name]) and "\n" not in str(told[name]), told[name]
    assert "hf auth login" in str(told["model some/nothing"])
    # The second time nothing is asked for.
    asked.clear()
    good = [("model", "some/own"), ("model", "some/peer"), *(("codec", name) for name in codecs[:-1])]
    again = load(good)
    assert again == {name: told[name] for name in again} and not asked


TEXT_SCRIPT = """
import sys
from audiocraft.models import MusicGen
from audiocraft.models.export import export_model

model = MusicGen.get_pretrained("some/text", "cpu")
model.set_generation_params(duration=0.2, use_sampling=False)
print(model.generate(["slow strings"], return_tokens=True)[1].sum().item())
export_model("some/text", sys.argv[1])
"""


@pytest.mark.parametrize("parts", [False, True])
def test_a_t5_beside_the_model(
    hub: tuple[Path, str, list[str]], golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: bool
) -> None:
    """It is fetched with the model, once, and nothing else of its folder is."""
    pytest.importorskip("transformers")
    root, address, asked = hub
    folder = shutil.copytree(golden / "lm_text", tmp_path / "text")
    shutil.copy(golden / "codec_ac" / "compression_state_dict.bin", folder)
    repo = export_model(folder, root / "some" / "text", format="safetensors")
    (repo / "t5" / "video.mp4").write_bytes(b"long")
    if parts:
        weights = load_file(repo / "t5" / "model.safetensors")
        (repo / "t5" / "model.safetensors").unlink()
        name = "model-00001-of-00001.safetensors"
        save_file(weights, repo / "t5" / name, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
        (repo / "t5" / "model.safetensors.index.json").write_text(json.dumps(index))
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    environment.pop("AUDIOCRAFT_CACHE_DIR", None)

    def play(out: Path) -> str:
        command = [sys.executable, "-c", TEXT_SCRIPT, str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = play(tmp_path / "out")
    assert (tmp_path / "out" / "t5" / "spiece.model").is_file()
    assert any("t5/config.json" in line for line in asked) and not any("video" in line for line in asked)
    asked.clear()
    assert play(tmp_path / "again") == told and not asked


def test_a_download_that_breaks_off_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client passes on errors of the library that it reads the net with."""

    def break_off(*_: object, **__: object) -> None:
        raise RuntimeError("peer closed connection\nwithout sending complete message body")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", break_off)
    monkeypatch.setattr("audiocraft.utils.hub.is_reachable", lambda: True)
    for load in (loaders.load_lm_model, loaders.load_compression_model):
        with pytest.raises(UserError, match=r"state_dict\.bin of some/model cannot be fetched from the hub"):
            load("some/model", cache_dir=str(tmp_path))


def test_the_command_that_uploads_is_installed(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app(["export", str(model_folder), "--out", str(tmp_path / "m"), "--format", "safetensors"], standalone_mode=False)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("upload: ")]
    command = line.removeprefix("upload: ").split()[0]
    scripts = metadata.distribution("huggingface_hub").entry_points.select(group="console_scripts")
    assert command in scripts.names


def _cached(home: Path, repo: str, files: dict[str, Path]) -> Path:
    """What the hub's client keeps of a repository once it downloaded these files."""
    folder = home / "hub" / f"models--{repo.replace('/', '--')}"
    for name, source in files.items():
        place = folder / "snapshots" / COMMIT / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


def test_a_file_that_the_cache_lacks_is_named(model_folder: Path, golden: Path, tmp_path: Path) -> None:
    """Offline; in a process of its own, because the hub's client reads its settings when it is imported."""
    home = tmp_path / "home"
    peer = {file.name: file for file in model_folder.iterdir()}
    _cached(home, "some/whole", peer)
    _cached(home, "some/model", {"state_dict.bin": peer["state_dict.bin"]})
    _cached(home, "some/codec", {"config.json": golden / "codec_hf" / "config.json"})
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(home)}
    for name in ("AUDIOCRAFT_CACHE_DIR", "HF_HUB_CACHE"):
        environment.pop(name, None)
    names = [("model", "some/whole"), ("model", "some/model"), ("codec", "some/codec"), ("model", "some/other")]
    command = [sys.executable, "-c", SCRIPT, json.dumps(names)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    whole, model, codec, other = json.loads(done.stdout.splitlines()[-1]).values()
    assert isinstance(whole, int)
    assert model.startswith("some/model is in the cache without compression_state_dict.bin or ")
    assert codec.startswith("some/codec is in the cache without model.safetensors, and the hub cannot be reached")
    assert other.startswith("some/other is neither here nor in the cache, and the hub cannot be reached")
