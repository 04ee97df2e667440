"""The model card (README.md) of a folder in our own layout: front matter for the hub, what it is, how to play it."""

import json
import math
import shlex
import typing as tp

from ..modules.sines import FRAME, SAMPLE_RATE
from .configs import package_config
from .packages import Package

CARD_FILE = "README.md"
_NONCOMMERCIAL = "cc-by-nc-4.0"  # of the codecs and models that facebook publishes


def model_card(name: str, lm: Package | None, codec: Package, facts: tp.Mapping[str, tp.Any]) -> str:
    """The card as Markdown.

    Args:
        name: of the model.
        lm, codec: as `ModelContent` holds them.
        facts: what `export.json` says.
    """
    taken_from = f"{facts.get('model', '')} {facts.get('codec', '')} {codec.get('pretrained', '')}"
    noncommercial = is_noncommercial(taken_from)
    sections = [front_matter(lm is not None, noncommercial), f"# {name}"]
    names = {
        "name": name,
        "quoted": shlex.quote(name),
        "string": json.dumps(name, ensure_ascii=False),
        "override": shlex.quote(f"compression_model_checkpoint={name}"),
    }
    if lm is None:
        sections.append(_codec_text(codec))
        sections.append(_USE.format(**names))
    else:
        sections.append(_lm_text(lm, codec))
        option, call = _WITH_TEXT if _texts(lm) else ("", "generate_unconditional(4)")
        sections.append(_PLAY.format(**names, option=option, call=call))
    if training := _training_text(facts):
        sections += ["## Training", training]
    sections += ["## Licence", licence_text(noncommercial)]
    return "\n\n".join(sections) + "\n"


_PLAY = """\
```
python -m audiocraft generate {quoted} {option}--duration 10 --num 4 --out takes
```

or

```python
from audiocraft.models import MusicGen

model = MusicGen.get_pretrained({string})
model.set_generation_params(duration=10)
wav = model.{call}
```

`{name}` is this folder, or its name on the hub. `model.safetensors` and `config.yaml` are read by micro-musicgen; for
audiocraft: `python -m audiocraft export {quoted} --format peer --out FOLDER`."""

_WITH_TEXT = ('--text "dub techno" ', 'generate(["dub techno", "slow strings"])')

_USE = """\
```
python -m audiocraft codec eval {quoted} FOLDER_OF_AUDIO
dora run solver=musicgen/micro_32khz {override} dset=...
```

`{name}` is this folder, or its name on the hub. For audiocraft:
`python -m audiocraft export {quoted} --format peer --out FOLDER`."""

_NONCOMMERCIAL_TEXT = (
    "It holds or needs weights that are published under CC-BY-NC 4.0, and is used under those terms: not commercially."
)
_LICENCE_TEXT = "The licence is whoever trained it to choose; say it here, and as `license:` at the top."


def is_noncommercial(names: str) -> bool:
    """Whether one of the models named holds weights that are published under CC-BY-NC 4.0."""
    return "facebook/" in names


def licence_text(noncommercial: bool) -> str:
    """What can be said of the licence: where weights of others are in it, theirs."""
    return _NONCOMMERCIAL_TEXT if noncommercial else _LICENCE_TEXT


def front_matter(is_lm: bool, noncommercial: bool) -> str:
    """What the hub reads."""
    lines = ["library_name: audiocraft", "tags: [micro-musicgen, musicgen, music]", "pipeline_tag: text-to-audio"]
    if not is_lm:
        lines = ["library_name: audiocraft", "tags: [micro-musicgen, encodec, codec]"]
    if noncommercial:
        lines.append(f"license: {_NONCOMMERCIAL}")
    return "\n".join(["---", *lines, "---"])


def _count(package: Package) -> int:
    return sum(value.numel() for value in package["best_state"].values())


def _texts(lm: Package) -> list[str]:
    """Names of the conditions."""
    return [key for key in package_config(lm, "config.yaml").get("conditioners") or {} if key != "args"]


def _lm_text(lm: Package, codec: Package) -> str:
    cfg: tp.Any = package_config(lm, "config.yaml")
    model = cfg.transformer_lm
    texts = _texts(lm)
    words = f"from texts ({', '.join(texts)})" if texts else "from nothing, or from the beginning of a sound"
    where = (
        f"the codec `{codec['pretrained']}`, which is fetched from the hub"
        if "pretrained" in codec
        else ("the codec in `codec/`")
    )
    return (
        f"A MusicGen that makes sound {words}: {model.get('num_layers')} layers of width {model.get('dim')}, "
        f"{_count(lm):,} parameters, over {model.get('n_q')} codebooks of {model.get('card')} codes. "
        f"It decodes with {where}."
    )


def _codec_text(codec: Package) -> str:
    cfg: tp.Any = package_config(codec, "config.yaml")
    if "spectral" in cfg:
        return (
            f"A spectral codec, envelopes and partials without a network (1 channel, {SAMPLE_RATE / 1000:g} kHz): "
            f"{SAMPLE_RATE / FRAME:g} frames per second, {cfg.rvq.n_q + 1} codebooks of {cfg.rvq.bins} codes, "
            f"{(cfg.rvq.n_q + 1) * SAMPLE_RATE / FRAME * math.log2(cfg.rvq.bins) / 1000:.1f} kb/s."
        )
    hop = math.prod(cfg.seanet.ratios)
    frames = cfg.encodec.sample_rate / hop
    kbps = frames * cfg.rvq.n_q * math.log2(cfg.rvq.bins) / 1000
    return (
        f"An EnCodec ({cfg.encodec.channels} channel{'s' * (cfg.encodec.channels > 1)}, "
        f"{cfg.encodec.sample_rate / 1000:g} kHz): {frames:g} frames per second, {cfg.rvq.n_q} codebooks of "
        f"{cfg.rvq.bins} codes, {kbps:.1f} kb/s."
    )


def _training_text(facts: tp.Mapping[str, tp.Any]) -> str:
    if not facts.get("run"):
        return ""
    text = f"Run `{facts['run']}`, {facts.get('epoch') or 0} epochs; the weights are its `{facts.get('state')}`."
    metrics = facts.get("metrics") or {}
    rows = [
        f"| {stage} | {name} | {value:.4g} |"
        for stage, values in metrics.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if name in ("ce", "ppl", "loss", "l1", "msspec") and isinstance(value, (int, float))
    ]
    return "\n".join([text, "", "| stage | metric | last epoch |", "|---|---|---|", *rows]) if rows else text
