"""Names to models: every layout, and what is said when something is missing, damaged or does not fit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audiocraft.checkpoints.packages import codec_package
from audiocraft.errors import UserError
from audiocraft.models import loaders
from audiocraft.models.encodec import CompressionModel
from audiocraft.models.export import FORMATS, export_model
from audiocraft.utils import hub


def test_golden_language_model(golden: Path) -> None:
    model = loaders.load_lm_model(golden / "lm_none")
    io = load_file(golden / "lm_none" / "io.safetensors")
    with torch.no_grad():
        logits = model.compute_predictions(io["codes"], []).logits
    assert (logits - io["logits"])[io["mask"]].abs().max() < 3e-5
    assert torch.equal(model.generate(num_samples=2, max_gen_len=40, use_sampling=False), io["gen_greedy"])
    assert not model.training
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize(("folder", "tolerance"), [("codec_ac", 3e-6), ("codec_hf", 2e-6)])
def test_golden_codecs(golden: Path, folder: str, tolerance: float) -> None:
    model = loaders.load_compression_model(golden / folder)
    io = load_file(golden / folder / "io.safetensors")
    with torch.no_grad():
        assert torch.equal(model.encode(io["wav"])[0], io["codes"])
        assert (model.decode(io["codes"]) - io["decoded"]).abs().max() < tolerance


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_names_of_one_codec(golden: Path, tmp_path: Path) -> None:
    """A folder, its file, `//pretrained/`, a file that names it, and weights with a config.yaml beside them."""
    folder = golden / "codec_ac"
    wanted = loaders.load_compression_model(folder)
    package = torch.load(folder / "compression_state_dict.bin", weights_only=True)
    named = {"pretrained": str(folder), "exported": True, "version": "1.3.0"}
    torch.save(named, tmp_path / "compression_state_dict.bin")
    ours = tmp_path / "ours"
    ours.mkdir()
    save_file(package["best_state"], ours / "model.safetensors")
    (ours / "config.yaml").write_text(package["xp.cfg"])
    for name in (folder / "compression_state_dict.bin", f"//pretrained/{folder}", tmp_path, ours):
        assert same_weights(loaders.load_compression_model(name), wanted), name
    assert same_weights(CompressionModel.get_pretrained(str(folder)), wanted)


def test_codec_run(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`//sig/` gives the averaged weights of a codec run of ours."""
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path))
    package = torch.load(golden / "codec_ac" / "compression_state_dict.bin", weights_only=True)
    last = {name: value + 1 for name, value in package["best_state"].items()}
    run = tmp_path / "xps" / "0123abcd"
    run.mkdir(parents=True)
    ema = {"state": {"model": package["best_state"]}, "count": 1.0}
    torch.save({"model": last, "ema": ema, "xp.cfg": package["xp.cfg"]}, run / "checkpoint.th")
    wanted = loaders.load_compression_model(golden / "codec_ac")
    for name in ("//sig/0123abcd", run, run / "checkpoint.th"):
        assert same_weights(loaders.load_compression_model(name), wanted), name


def test_half_precision_and_unknown_config_keys(golden: Path, tmp_path: Path) -> None:
    """Weights in float16 play in float32; unknown keys are passed over; conditioners may be absent."""
    package = torch.load(golden / "lm_none" / "state_dict.bin", weights_only=True)
    package["best_state"] = {name: value.half() for name, value in package["best_state"].items()}
    lines = [line for line in package["xp.cfg"].splitlines() if not line.startswith("conditioners:")]
    package["xp.cfg"] = "\n".join([*lines, "something: {of: the peer}"])
    torch.save(package, tmp_path / "state_dict.bin")
    model = loaders.load_lm_model(tmp_path)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert len(model.condition_provider.conditioners) == 0


def test_weights_are_mapped_not_copied(golden: Path) -> None:
    """Loading reads the file through a map: the tensors of one file share its storage."""
    package = loaders.load_lm_model_ckpt(golden / "lm_none")
    model = loaders.build_lm_model(package)
    for name, value in model.state_dict().items():
        assert value.data_ptr() == package["best_state"][name].data_ptr(), name


def _break(path: Path, how: str) -> None:
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "text":
        path.write_text("hello")
    elif how == "objects":
        torch.save({"best_state": {}, "xp.cfg": Path("a")}, path)
    elif how == "list":
        torch.save([1, 2], path)
    elif how == "no weights":
        torch.save({"xp.cfg": "a: 1", "exported": True}, path)
    elif how == "no config":
        torch.save({"best_state": {}, "exported": True}, path)
    elif how == "bad yaml":
        torch.save({"best_state": {}, "xp.cfg": "a: [", "exported": True}, path)
    elif how == "other model":
        torch.save({"best_state": {}, "xp.cfg": "a: 1", "exported": True}, path)
    else:
        package = torch.load(path, weights_only=True)
        state = package["best_state"]
        name = next(iter(state))
        if how == "lacks one":
            del state[name]
        elif how == "one too many":
            state["extra"] = torch.zeros(1)
        else:
            state[name] = torch.zeros(3)
        torch.save(package, path)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("empty", "damaged"),
        ("cut", "damaged"),
        ("text", "damaged"),
        ("objects", "pickled objects"),
        ("list", "not a checkpoint"),
        ("no weights", "holds no weights"),
        ("no config", "no config"),
        ("bad yaml", "cannot be read"),
        ("other model", "is not a"),
        ("lacks one", "is missing"),
        ("one too many", "extra is unknown"),
        ("wrong shape", "is (3,), not"),
    ],
)
def test_damaged_files(model_folder: Path, how: str, says: str) -> None:
    for file, load in (
        ("state_dict.bin", loaders.load_lm_model),
        ("compression_state_dict.bin", loaders.load_compression_model),
    ):
        _break(model_folder / file, how)
        with pytest.raises(UserError) as error:
            load(model_folder)
        message = str(error.value)
        assert says in message and "\n" not in message and file in message


@pytest.mark.parametrize("how", ["lacks one", "one too many", "wrong shape", "no numbers"])
@pytest.mark.parametrize("file", ["state_dict.bin", "compression_state_dict.bin"])
def test_what_does_not_load_is_not_exported(model_folder: Path, tmp_path: Path, file: str, how: str) -> None:
    """Of a language model, of its codec, and of a codec alone."""
    if how == "no numbers":
        package = torch.load(model_folder / file, weights_only=True)
        name = next(name for name, value in package["best_state"].items() if value.is_floating_point())
        package["best_state"][name] = torch.full_like(package["best_state"][name], float("nan"))
        torch.save(package, model_folder / file)
    else:
        _break(model_folder / file, how)
    sources = [model_folder]
    if file.startswith("compression"):
        sources.append(model_folder / file)
    for source in sources:
        for format in FORMATS:
            with pytest.raises(UserError, match=file):
                export_model(source, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()


def test_damaged_safetensors(golden: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(golden / "codec_hf", tmp_path / "codec")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        loaders.load_compression_model(folder)
    (folder / "config.json").rename(folder / "config.yaml")
    with pytest.raises(UserError, match="damaged"):
        loaders.load_compression_model(folder)
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"the config inside .* cannot be read"):
        loaders.load_compression_model(folder)


@pytest.mark.parametrize("load", [loaders.load_lm_model, loaders.load_compression_model])
def test_nothing_by_that_name(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("AUDIOCRAFT_DORA_DIR", str(tmp_path / "outputs"))
    with pytest.raises(UserError, match="there is no model"):
        load("no_such_model")
    with pytest.raises(UserError, match="holds none of"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"there is no run //sig/01234567 .*outputs.xps"):
        load("//sig/01234567")


def test_a_codec_is_no_model() -> None:
    with pytest.raises(UserError, match="is a codec"):
        loaders.load_lm_model("//pretrained/mini_32khz")


def test_hub_out_of_reach_is_said_at_once(tmp_path: Path) -> None:
    """No retries: in a process of its own, because the hub's client reads its settings when it is imported."""
    code = (
        "from audiocraft.models import loaders\n"
        "from audiocraft.errors import UserError\n"
        "for load, name in ((loaders.load_compression_model, '//pretrained/facebook/encodec_32khz'),\n"
        "                   (loaders.load_lm_model, 'facebook/musicgen-small')):\n"
        "    try:\n        load(name)\n"
        "    except UserError as error:\n        print(error)\n"
    )
    # A closed port of this machine stands for a net that does not answer.
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    codec, model = done.stdout.splitlines()
    for way_out in ("local path", "cache", "the codec that ships here is //pretrained/spectral_32khz"):
        assert way_out in codec
    assert "local folder" in model and "cache" in model
    assert "Retry" not in done.stderr


def test_addresses_do_not_share_a_cached_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every export's file is called state_dict.bin; each address is downloaded once."""
    asked = []

    def download(url: str, path: str) -> None:
        asked.append(url)
        Path(path).write_text(url)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    urls = [f"https://host.test/{name}/state_dict.bin?download=true" for name in "ab"]
    for url in (*urls, *urls):
        path = hub.url_file(url, str(tmp_path), "")
        assert path.read_text() == url and path.name.endswith("state_dict.bin")
    assert asked == urls


def test_hub_cache_needs_no_net(golden: Path, tmp_path: Path) -> None:
    """A filled cache is used as it is, in the Hugging Face layout."""
    repository = tmp_path / "models--somebody--codec"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(golden / "codec_hf" / name, snapshot)
    model = loaders.load_compression_model("//pretrained/somebody/codec", cache_dir=str(tmp_path))
    assert same_weights(model, loaders.load_compression_model(golden / "codec_hf"))


def test_hf_codec_as_a_package(golden: Path, tmp_path: Path) -> None:
    """A Hugging Face codec written in the peer's layout codes the same."""
    package = codec_package(golden / "codec_hf")
    torch.save(
        {key: package[key] for key in ("best_state", "xp.cfg", "version")}, tmp_path / "compression_state_dict.bin"
    )
    model = loaders.load_compression_model(tmp_path)
    io = load_file(golden / "codec_hf" / "io.safetensors")
    meta = json.loads((golden / "codec_hf" / "meta.json").read_text())
    assert model.num_codebooks == io["codes"].shape[1] and meta
    with torch.no_grad():
        assert torch.equal(model.encode(io["wav"])[0], io["codes"])
