"""The public names of the peer (tests/golden/api.txt): here with their parameters, or on the page that says why not."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from audiocraft.errors import UserError
from audiocraft.utils import left_out

from .api_list import Name, differences, ours, read_api
from .compatibility import covers, rows

NAMES = read_api(Path(__file__).parents[1] / "golden" / "api.txt")
LEFT_OUT = [name for row in rows("Names that are left out") for name in row.names]
OTHER_PARAMETERS = {
    name: {part.strip("`") for part in row.cells[1].split(", ")}
    for row in rows("Names with other parameters")
    for name in row.names
}


def is_left_out(name: Name) -> bool:
    return any(covers(pattern, str(name)) for pattern in LEFT_OUT)


def test_the_list_is_read() -> None:
    """A parser that finds nothing would find no difference either."""
    by_name = {str(name): name for name in NAMES}
    assert len(NAMES) > 400
    assert by_name["models.musicgen.MusicGen.get_pretrained"].kind == "staticmethod"
    generate = by_name["models.lm.LMModel.generate"]
    assert generate.parameters[:2] == (("prompt", "None"), ("conditions", "[]")) and len(generate.parameters) == 14
    assert by_name["losses.sisnr.SISNR"].parameters[1] == ("segment", "20")
    assert dict(by_name["adversarial.losses.FeatureMatchingLoss"].parameters)["loss"] == "L1Loss()"


def test_differences_are_found() -> None:
    theirs = (("a", None), ("b", "1"), ("c", "[2]"))
    assert differences(theirs, (("a", None), ("b", "1"), ("c", "(2)"), ("d", "None"))) == set()
    assert differences(theirs, (("a", "0"), ("b", "1"), ("c", "[2]"))) == set()
    assert differences(theirs, (("a", None), ("b", "2"), ("c", "[2]"))) == {"b"}
    assert differences(theirs, (("a", None), ("c", "[2]"))) == {"b"}
    assert differences(theirs, (("a", None), ("c", "[2]"), ("b", "1"))) == {"c"}
    assert differences(theirs, (("a", None), ("d", "0"), ("b", "1"), ("c", "[2]"))) == {"d"}
    assert differences(theirs, (*theirs, ("d", None))) == {"d"}


@pytest.mark.parametrize("module", sorted({name.module for name in NAMES}))
def test_names_and_parameters(module: str) -> None:
    for name in (name for name in NAMES if name.module == module):
        mine = ours(name)
        if is_left_out(name):
            assert mine is None, f"{name} is here and on the page of what is left out"
        else:
            assert mine is not None, f"{name} is neither here nor on the page"
            # A row may speak of several names, not all of which have all its parameters.
            told = OTHER_PARAMETERS.get(str(name), set()) & (dict(name.parameters).keys() | dict(mine).keys())
            assert differences(name.parameters, mine) == told, name


def test_the_page_names_nothing_else() -> None:
    """What stands on the page is in the list, or is refused when it is asked for."""
    listed = {str(name) for name in NAMES}
    assert not OTHER_PARAMETERS.keys() - listed
    refused = {name.removeprefix("audiocraft.") for name in left_out.MODULES}
    refused |= {f"{module.removeprefix('audiocraft.')}.{n}" for module, names in left_out.NAMES.items() for n in names}
    refused |= {f"MusicGen.{name}" for name in left_out.METHODS}
    for pattern in LEFT_OUT:
        assert pattern in refused or any(covers(pattern, name) for name in listed), pattern
    assert not [name for name in refused if not any(covers(pattern, name) for pattern in LEFT_OUT)]


def use(stand_in: Any) -> None:
    """Everything that a file may do with a name while it is imported."""

    class Heir(stand_in, nn.Module):
        field: stand_in | None = None

        def method(self, given: list[stand_in]) -> None: ...

    assert not isinstance(3, stand_in) and issubclass(Heir, stand_in)
    assert pytest.mark.parametrize("kind", [stand_in]).args[1] == [stand_in]
    assert "left out" in stand_in.__doc__ and not hasattr(stand_in, "_private") and not hasattr(stand_in, "anything")
    for call in (stand_in, Heir, lambda: stand_in(1, two=2)):
        with pytest.raises(
            UserError, match=rf"{stand_in.__name__} .*left out.* \(.+\); docs/COMPATIBILITY\.md"
        ) as told:
            call()
        assert "\n" not in str(told.value)
    with pytest.raises(AttributeError, match=r"left out.*docs/COMPATIBILITY\.md"):
        stand_in.get_pretrained("small")


def test_names_that_are_left_out_can_be_imported_and_say_so_when_used() -> None:
    for module, names in left_out.NAMES.items():
        for name in names:
            found = getattr(importlib.import_module(module), name)
            assert getattr(importlib.import_module(module), name) is found
            use(found)
    for module in left_out.MODULES:
        for name in (module, f"{module}.below", f"{module}.below.that"):
            found = importlib.import_module(name)
            assert "left out" in str(found.__doc__)
            use(found.Anything)
            with pytest.raises(AttributeError):
                found.__file__  # noqa: B018
        parent, _, name = module.rpartition(".")
        assert getattr(importlib.import_module(parent), name) is importlib.import_module(module)


def test_as_people_write_it() -> None:
    from audiocraft.data.zip import PathInZip
    from audiocraft.modules.streaming import StreamingModule

    from audiocraft.models import AudioGen, MAGNeT, MultiBandDiffusion, MusicGen
    from audiocraft.modules import streaming

    assert streaming.StreamingModule is StreamingModule and MusicGen.__module__ == "audiocraft.models.musicgen"
    for stand_in in (PathInZip, AudioGen, MAGNeT, MultiBandDiffusion, StreamingModule):
        use(stand_in)
    # A slip of the pen stays one.
    with pytest.raises(ImportError, match="cannot import name 'MusicGenn'"):
        from audiocraft.models import MusicGenn  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'audiocraft\.music'"):
        importlib.import_module("audiocraft.music")


FACES = {
    "audiocraft": "data models modules",
    "audiocraft.adversarial": "AdvLossType AdversarialLoss FeatLossType FeatureMatchingLoss "
    "MultiScaleSTFTDiscriminator get_adv_criterion get_fake_criterion get_real_criterion",
    "audiocraft.adversarial.discriminators": "MultiScaleSTFTDiscriminator",
    "audiocraft.data": "audio audio_dataset audio_utils info_audio_dataset music_dataset",
    "audiocraft.losses": "Balancer MRSTFTLoss MelSpectrogramL1Loss MultiScaleMelSpectrogramLoss SISNR STFTLoss",
    "audiocraft.models": "CompressionModel EncodecModel LMModel MusicGen builders loaders",
    "audiocraft.modules": "NormConv1d NormConv2d NormConvTranspose1d NormConvTranspose2d SEANetDecoder SEANetEncoder "
    "StreamableConv1d StreamableConvTranspose1d StreamableLSTM StreamingTransformer pad1d pad_for_conv1d unpad1d",
    "audiocraft.optim": "CosineLRScheduler InverseSquareRootLRScheduler LinearWarmupLRScheduler ModuleDictEMA "
    "PolynomialDecayLRScheduler",
    "audiocraft.quantization": "BaseQuantizer DummyQuantizer QuantizedResult ResidualVectorQuantizer",
    "audiocraft.solvers": "CompressionSolver MusicGenSolver StandardSolver get_solver",
}


def test_packages_hand_on_what_the_peer_does() -> None:
    """In a process of its own, where nothing has imported the submodules."""
    lines = [f"from {package} import {', '.join(names.split())}" for package, names in FACES.items()]
    code = "; ".join(["import audiocraft", "audiocraft.models.MusicGen, audiocraft.modules.pad1d", *lines])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_stays_light() -> None:
    code = "import sys, audiocraft; print([m for m in ('torch', 'numpy', 'omegaconf', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
