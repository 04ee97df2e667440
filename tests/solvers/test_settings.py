"""Values that no run can be made of end in one line that names the key."""

import pytest

from audiocraft import train
from audiocraft.errors import UserError
from audiocraft.solvers.settings import check_settings


def check(*overrides: str) -> None:
    check_settings(train.main.make_xp(["solver=musicgen/debug", "dset=audio/example", *overrides]).cfg)


@pytest.mark.parametrize(
    "override",
    [
        "optim.epochs=0",
        "optim.epochs=1.5",
        "optim.epochs=null",
        "optim.lr=-1",
        "optim.lr=nan",
        "optim.adam.betas=[0.9]",
        "optim.adam.betas=[0.9,1]",
        "optim.muon.lr=-1",
        "optim.muon.momentum=1",
        "tokens.corruption=0.6",
        "tokens.loss_share=0",
        "optim.ema.updates=0",
        "dataset.batch_size=0",
        "dataset.batch_size=null",
        "dataset.num_workers=-1",
        "dataset.segment_duration=0",
        "transformer_lm.dim=null",
        "init_from_codec=2",
        "init_from_codec=null",
        "generate.audio.format=midi",
        "generate.audio.strategy=loud",
        "generate.lm.top_p=2",
        "sampling.temperature=0",
        "sampling.top_k=2.5",
        "sampling.cool=cold",
        "logging.level=LOUD",
        "logging.progress=no",
        "mp_start_method=thread",
    ],
)
def test_values_out_of_range(override: str) -> None:
    key = override.split("=", maxsplit=1)[0].replace(".", r"\.")
    with pytest.raises(UserError, match=rf"^{key}=.*(this takes|choose one of)"):
        check(override)


@pytest.mark.parametrize(
    "override",
    [
        "adversarial.every=0",
        "adversarial.start=-1",
        "rvq.threshold_ema_dead_code=null",
        "rvq.threshold_ema_dead_code=often",
        "rvq.threshold_ema_dead_code=-1",
        "mel.n_fft=0",
        "mel.n_fft=null",
        "mel.hop_length=0",
        "mel.win_length=4096",
        "mel.f_max=10",
        "mel.f_max=40000",
        "mel.f_max=high",
        "mel.f_min=-1",
        "mel.floor_level=0",
        "msspec.f_max=64",
        "msspec.f_max=high",
        "msspec.f_max=16001",
        "msspec.range_start=-2",
        "msspec.range_end=8",
        "msspec.range_end=3",
        "losses.l1=nan",
        "losses.l1=inf",
        "losses.msspec=-1",
        "losses.adv=much",
    ],
)
def test_values_out_of_range_of_a_codec(override: str) -> None:
    key = override.split("=", maxsplit=1)[0].replace(".", r"\.")
    with pytest.raises(UserError, match=rf"^{key}=.*this takes"):
        check("solver=compression/encodec_mini_32khz", override)


def test_a_codec_is_causal_throughout() -> None:
    with pytest.raises(UserError, match=r"seanet\.causal=True alone is not enough; set encodec\.causal"):
        check("solver=compression/encodec_mini_32khz", "seanet.causal=true")
    check("solver=compression/encodec_mini_32khz", "encodec.causal=true")


def test_what_a_codec_takes() -> None:
    check(
        "solver=compression/encodec_mini_32khz",
        *("rvq.threshold_ema_dead_code=0", "losses.l1=0", "losses.sisnr=null", "+losses.l2=1", "mel.f_max=16000"),
        *("msspec.f_max=null", "mel.win_length=null", "msspec.range_start=2", "msspec.range_end=3"),
    )
    # What no loss hears is nobody's mistake: the recipe's mel goes up to 4 kHz.
    check("solver=compression/encodec_mini_32khz", "sample_rate=4000", "losses.mel=0")


@pytest.mark.parametrize("solver", ["musicgen/micro_32khz", "musicgen/musicgen_base_32khz", "compression/debug"])
def test_recipes_are_fine(solver: str) -> None:
    check(f"solver={solver}")


@pytest.mark.parametrize(
    "override",
    ["optim.lr=1", "optim.updates_per_epoch=null", "dataset.segment_duration=null", "generate.every=null"],
)
def test_what_may_be_null_or_whole(override: str) -> None:
    check(override)


def test_what_recipes_share_is_no_recipe() -> None:
    with pytest.raises(
        UserError, match=r"no value was given for .*optim\.lr.*; add .*=VALUE, or choose a whole recipe"
    ):
        check_settings(train.main.make_xp(["solver=musicgen/default", "dset=audio/example"]).cfg)
