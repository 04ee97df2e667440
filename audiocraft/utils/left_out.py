"""Names of the peer that are left out on purpose: importing one breaks nothing, using it tells why it is not here.

`docs/COMPATIBILITY.md` lists them, with what to use; a test holds this table against it.
"""

import sys
import typing as tp
from abc import ABCMeta
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

from ..errors import UserError

WHERE = "docs/COMPATIBILITY.md"

# Each reason, and below it the names in modules that are here, by module, and whole modules with all below them (`*`).
_TABLE = """
state is an object that is passed: modules.kv_cache, models.state
    *: modules.streaming
torch's attention is the one implementation, and positional_embedding=rope is there
    modules.rope: XPos
    modules.transformer: expand_repeated_kv
look-up tables for words; T5Conditioner is there
    modules.conditioners: LUTConditioner NoopTokenizer Tokenizer WhiteSpaceTokenizer
conditions other than text; continue a sound with generate_continuation
    *: modules.chroma modules.jasco_conditioners
    modules.conditioners: CLAPEmbeddingConditioner ChromaStemConditioner JointEmbeddingConditioner
    modules.conditioners: StyleConditioner WaveformConditioner
a base class: AttributeDropout and ClassifierFreeGuidanceDropout are there
    modules.conditioners: DropoutModule
the multi-scale STFT discriminator is the one that EnCodec uses
    *: adversarial.discriminators.mpd adversarial.discriminators.msd
    adversarial: MultiPeriodDiscriminator MultiScaleDiscriminator
    adversarial.discriminators: MultiPeriodDiscriminator MultiScaleDiscriminator
diffusion decoders and watermarks
    *: models.multibanddiffusion models.unet models.watermark solvers.diffusion solvers.watermark
    *: modules.diffusion_schedule modules.unet_transformer modules.watermark
    models: DiffusionUnet MultiBandDiffusion WMModel
    models.builders: get_processor
    modules: SEANetEncoderKeepDimension
    modules.seanet: SEANetEncoderKeepDimension
    solvers: DiffusionSolver WatermarkSolver
MusicGen is the model that is here
    *: data.jasco_dataset data.sound_dataset models.audiogen models.flow_matching models.jasco models.lm_magnet
    *: models.magnet solvers.audiogen solvers.jasco solvers.magnet
    models: AudioGen FlowMatchingModel JASCO MAGNeT MagnetLMModel
    solvers: AudioGenSolver AudioMagnetSolver JascoSolver MagnetSolver
EncodecModel reads Hugging Face's layout itself, and is the codec that is here
    models: DAC HFEncodecCompressionModel HFEncodecModel
    models.encodec: DAC HFEncodecCompressionModel HFEncodecModel
stereo models
    models.builders: get_wrapped_compression_model
    models.encodec: InterleaveStereoCompressionModel
inner steps; encode, decode and forward are there
    quantization.core_vq: default ema_inplace exists l2norm laplace_smoothing orthogonal_loss_fn sample_vectors
    quantization.core_vq: uniform_init
archives and cluster paths
    *: data.zip
    data.info_audio_dataset: clusterify_all_meta
needs a file of paraphrases that only the peer's authors have
    data.music_dataset: Paraphraser
optim.optimizer=dadam uses the dadaptation package
    *: optim.dadam
    optim: DAdaptAdam
FSDP and its sharded checkpoints; models here fit one GPU
    *: optim.fsdp
    utils.checkpoint: CheckpointSource check_sharded_checkpoint is_sharded_checkpoint
metrics that need models of others; metrics.reconstruction and codec eval are there
    *: metrics.chroma_cosinesim metrics.clap_consistency metrics.fad metrics.kld metrics.rvm metrics.visqol
    metrics: CLAPTextConsistencyMetric ChromaCosineSimilarityMetric FrechetAudioDistanceMetric KLDivergenceMetric
    metrics: PasstKLDivergenceMetric RelativeVolumeMel TextConsistencyMetric ViSQOL
    solvers.builders: get_text_consistency
takes and samples are numbered files with a JSON beside each
    *: utils.samples
IPython.display.Audio plays a wave
    *: utils.notebook
helpers inside the peer
    *: utils.autocast utils.cache utils.cluster utils.deadlock utils.export_legacy utils.profiler utils.utils
"""

# Whole modules, and by module the names in it, each with the reason.
MODULES: dict[str, str] = {}
NAMES: dict[str, dict[str, str]] = {}
for _line in _TABLE.strip().splitlines():
    _module, _, _names = _line.strip().partition(": ")
    if not _line.startswith(" "):
        _reason = _line
    elif _module == "*":
        MODULES |= {f"audiocraft.{name}": _reason for name in _names.split()}
    else:
        NAMES.setdefault(f"audiocraft.{_module}", {}).update(dict.fromkeys(_names.split(), _reason))

# Methods of MusicGen.
METHODS = frozenset({"generate_with_chroma", "set_style_conditioner_params"})

# Choices of the peer's config groups: solvers and conditioners of models that are not here.
CHOICES = {
    "solver": "audiogen/* diffusion/* jasco/* magnet/* watermark/* *melody* *style* *_audiogen_*",
    "conditioner": "chord* chroma* clap* drum* jasco* style* text2sound",
}


def is_choice(group: str, choice: str) -> bool:
    """Whether a config group of the peer has a choice of that kind that is left out."""
    return any(fnmatchcase(choice, pattern) for pattern in CHOICES.get(group, "").split())


def message(name: str, reason: str = "") -> str:
    """What is said to whoever uses a name that is left out."""
    because = f" ({reason})" if reason else ""
    return f"{name} of audiocraft is left out of micro-musicgen on purpose{because}; {WHERE} says why and what to use"


class _StandIn(ABCMeta):
    """The class of what stands for a name that is left out: it can be imported, named in annotations, asked about with
    `isinstance` and inherited from, and says its reason when it, or what inherits from it, is called or looked into.

    An ABCMeta, so that it goes together with other base classes.
    """

    left_out: str

    def __call__(cls, *args: tp.Any, **kwargs: tp.Any) -> tp.NoReturn:
        raise UserError(cls.left_out)

    def __getattr__(cls, name: str) -> tp.NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(cls.left_out)


@cache
def _stand_in(module: str, name: str, reason: str) -> type:
    told = message(f"{module}.{name}", reason)
    return _StandIn(name, (), {"__module__": module, "__doc__": told, "left_out": told})


def missing(module: str, faces: tp.Mapping[str, str] | None = None) -> tp.Callable[[str], tp.Any]:
    """The `__getattr__` of a module: imports what `faces` names (submodule, or "" for submodules themselves → names)
    when it is asked for, gives a stand-in for a name that is left out, and knows nothing else."""
    homes = {name: home or name for home, names in (faces or {}).items() for name in names.split()}

    def getattr_(name: str) -> tp.Any:
        if name in homes:
            found = import_module(f"{module}.{homes[name]}")
            return found if homes[name] == name else getattr(found, name)
        if f"{module}.{name}" in MODULES:
            return import_module(f"{module}.{name}")
        if name in NAMES.get(module, ()):
            return _stand_in(module, name, NAMES[module][name])
        if name == "__all__" and homes:
            return list(homes)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getattr_


class _Finder:
    """Asked by the import system last, for modules that nobody else has found; finds those that are left out, as
    modules in which every name is a stand-in."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        parts = name.split(".")
        above = (".".join(parts[:count]) for count in range(2, len(parts) + 1))
        reason = next((MODULES[module] for module in above if module in MODULES), None)
        return None if reason is None else ModuleSpec(name, tp.cast(tp.Any, _Loader(reason)), is_package=True)


class _Loader:
    def __init__(self, reason: str) -> None:
        self.reason = reason

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own will do."""

    def exec_module(self, module: ModuleType) -> None:
        def getattr_(name: str) -> tp.Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return _stand_in(module.__name__, name, self.reason)

        module.__doc__ = message(module.__name__, self.reason)
        module.__dict__["__getattr__"] = getattr_


def stand_for_modules() -> None:
    """Have imports of modules that are left out find stand-ins."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
