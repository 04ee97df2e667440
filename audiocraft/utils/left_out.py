"""Names of the peer that are left out on purpose: whoever asks for one is told so, and where to look.

`docs/COMPATIBILITY.md` lists them with reasons; a test holds this table against it.
"""

import sys
import typing as tp
from fnmatch import fnmatchcase
from importlib.machinery import ModuleSpec

WHERE = "docs/COMPATIBILITY.md"

# Whole modules; what is below one of them is left out with it.
MODULES = frozenset(
    f"audiocraft.{name}"
    for name in (
        "adversarial.discriminators.mpd",
        "adversarial.discriminators.msd",
        "data.jasco_dataset",
        "data.sound_dataset",
        "data.zip",
        "metrics.chroma_cosinesim",
        "metrics.clap_consistency",
        "metrics.fad",
        "metrics.kld",
        "metrics.visqol",
        "models.audiogen",
        "models.flow_matching",
        "models.jasco",
        "models.lm_magnet",
        "models.magnet",
        "models.multibanddiffusion",
        "models.unet",
        "models.watermark",
        "modules.chroma",
        "modules.diffusion_schedule",
        "modules.jasco_conditioners",
        "modules.streaming",
        "modules.unet_transformer",
        "modules.watermark",
        "optim.dadam",
        "optim.fsdp",
        "solvers.audiogen",
        "solvers.diffusion",
        "solvers.jasco",
        "solvers.magnet",
        "solvers.watermark",
        "utils.samples",
    )
)

# Names in modules that are here.
NAMES: dict[str, frozenset[str]] = {
    f"audiocraft.{module}": frozenset(names.split())
    for module, names in {
        "data.info_audio_dataset": "clusterify_all_meta",
        "data.music_dataset": "Paraphraser",
        "models": "AudioGen DAC JASCO MAGNeT MultiBandDiffusion UnetModel",
        "models.builders": "get_processor get_wrapped_compression_model",
        "models.encodec": "DAC HFEncodecCompressionModel InterleaveStereoCompressionModel",
        "modules.conditioners": "CLAPEmbeddingConditioner ChromaStemConditioner DropoutModule "
        "JointEmbeddingConditioner LUTConditioner NoopTokenizer StyleConditioner Tokenizer WaveformConditioner "
        "WhiteSpaceTokenizer",
        "modules.conv": "NormConv2d NormConvTranspose2d",
        "modules.rope": "XPos",
        "modules.transformer": "expand_repeated_kv set_efficient_attention_backend",
        "quantization.core_vq": "default ema_inplace exists l2norm laplace_smoothing orthogonal_loss_fn sample_vectors "
        "uniform_init",
        "solvers.builders": "get_text_consistency",
        "utils.checkpoint": "CheckpointSource check_sharded_checkpoint is_sharded_checkpoint",
    }.items()
}

# Methods of MusicGen.
METHODS = frozenset({"generate_with_chroma", "set_style_conditioner_params"})

# Choices of the peer's config groups: solvers and conditioners of models that are not here.
CHOICES: dict[str, tuple[str, ...]] = {
    "solver": (
        "audiogen/*",
        "diffusion/*",
        "jasco/*",
        "magnet/*",
        "watermark/*",
        "*melody*",
        "*style*",
        "*_audiogen_*",
    ),
    "conditioner": ("chord*", "chroma*", "clap*", "drum*", "jasco*", "style*", "text2sound"),
}


def is_choice(group: str, choice: str) -> bool:
    """Whether a config group of the peer has a choice of that kind that is left out."""
    return any(fnmatchcase(choice, pattern) for pattern in CHOICES.get(group, ()))


def message(name: str) -> str:
    """What is said to whoever asks for a name that is left out."""
    return f"{name} of audiocraft is left out of micro-musicgen on purpose; {WHERE} says why and what to use"


def missing(module: str) -> tp.Callable[[str], tp.Any]:
    """The `__getattr__` of a module: refuses names that are left out, and knows nothing else.

    The refusal is an ImportError, because `from module import name` swallows what an AttributeError says.
    """

    def getattr_(name: str) -> tp.Any:
        if name in NAMES.get(module, ()):
            raise ImportError(message(f"{module}.{name}"), name=module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getattr_


class _Finder:
    """Asked by the import system last, for modules that nobody else has found."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in MODULES or name.rpartition(".")[0] in MODULES:
            # Without a name: `from package import module` swallows the error of a module that bears its name.
            raise ModuleNotFoundError(message(name))
        return None


def refuse_modules() -> None:
    """Have imports of modules that are left out say so."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
