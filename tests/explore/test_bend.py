"""Bent codes: each operation does what it says, by seed, and the codec plays the sum of the vectors that are left."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.explore import bend
from audiocraft.explore.bend import HOLE
from audiocraft.explore.recipe import (
    Bend,
    Recipe,
    bend_codes,
    lookup_names,
    parse_recipe,
    random_recipe,
    total_speed,
)
from audiocraft.models.encodec import EncodecModel
from audiocraft.models.loaders import load_compression_model
from audiocraft.quantization import DummyQuantizer, ResidualVectorQuantizer

CARDINALITY = 64
FRAMES = 103


@pytest.fixture(scope="module")
def codec(golden: Path) -> EncodecModel:
    """4 codebooks of 64 codes, 32 wide."""
    return load_compression_model(golden / "codec_ac" / "compression_state_dict.bin")


@pytest.fixture(scope="module")
def other(golden: Path) -> EncodecModel:
    """Another of the same shape."""
    return load_compression_model(golden / "codec_ac_causal" / "compression_state_dict.bin")


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_codes(frames: int = FRAMES, batch: int = 2) -> torch.Tensor:
    return torch.randint(CARDINALITY, (batch, 4, frames), generator=seeded(0))


def numbered(frames: int = FRAMES) -> torch.Tensor:
    """Codes [1, 4, F] that say which frame they come from."""
    return torch.arange(frames).expand(1, 4, frames).clone()


Operation = Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]
OPERATIONS: dict[str, Operation] = {
    "drop": lambda codes, amount, generator: bend.drop(codes, [0, 2], amount, generator),
    "swap": lambda codes, amount, generator: bend.swap(codes, 0, 2, amount, generator),
    "shuffle": lambda codes, amount, generator: bend.shuffle(codes, 5, [0, 2], amount, generator),
    "hold": lambda codes, amount, generator: bend.hold(codes, 5, [0, 2], amount, generator),
    "stutter": lambda codes, amount, generator: bend.stutter(codes, 5, [0, 2], amount, generator),
    "reverse": lambda codes, amount, generator: bend.reverse(codes, 5, [0, 2], amount, generator),
    "permute": lambda codes, amount, generator: bend.permute_codes(codes, [0, 2], CARDINALITY, amount, generator),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_by_seed_and_amount(name: str) -> None:
    """One seed is one result, drawn from the generator alone; what was given stays as it was; the amount counts."""
    operation, codes = OPERATIONS[name], some_codes()
    before, state = codes.clone(), torch.get_rng_state()
    full = operation(codes, 1.0, seeded())
    assert torch.equal(full, operation(codes, 1.0, seeded()))
    assert torch.equal(codes, before) and torch.equal(torch.get_rng_state(), state)
    assert full.shape == codes.shape and full.dtype == torch.int64
    assert torch.equal(full[:, [1, 3]], codes[:, [1, 3]]) and not torch.equal(full[:, 0], codes[:, 0])
    assert torch.equal(operation(codes, 0.0, seeded()), codes)
    moved = [(operation(codes, amount, seeded()) != codes).sum().item() for amount in (0.0, 1e-6, 0.3, 1.0)]
    assert 0 == moved[0] < moved[1] < moved[2] < moved[3]
    # A clip of a batch is bent as it is alone.
    assert torch.equal(operation(codes[1:], 0.5, seeded()), operation(codes, 0.5, seeded())[1:])


@pytest.mark.parametrize("name", ["shuffle", "hold", "stutter", "permute"])
def test_seeds_differ(name: str) -> None:
    operation, codes = OPERATIONS[name], some_codes()
    assert not torch.equal(operation(codes, 0.5, seeded(1)), operation(codes, 0.5, seeded(2)))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("frames", [1, 2, 5, 6])
def test_short(name: str, frames: int) -> None:
    codes = some_codes(frames)
    assert OPERATIONS[name](codes, 1.0, seeded()).shape == codes.shape


def test_drop_and_swap() -> None:
    codes = some_codes(100)
    dropped = bend.drop(codes, [1, 3], 0.25, seeded())
    holes = dropped == HOLE
    assert holes.sum(-1).tolist() == [[0, 25, 0, 25]] * 2 and torch.equal(dropped[~holes], codes[~holes])
    assert torch.equal(holes[:, 1], holes[:, 3])
    swapped = bend.swap(codes, 0, 3, 1.0, seeded())
    assert torch.equal(swapped, codes[:, [3, 1, 2, 0]])
    half = bend.swap(codes, 0, 3, 0.5, seeded())
    assert torch.equal(bend.swap(half, 0, 3, 0.5, seeded()), codes)
    assert (half[0, 0] == swapped[0, 0]).sum() >= 50 > (half[0, 0] != codes[0, 0]).sum() - 1


def test_shuffle_moves_every_block() -> None:
    shuffled = bend.shuffle(numbered(103), 10, [0, 1, 2, 3], 1.0, seeded())[0, 0]
    blocks = shuffled[:100].view(10, 10)
    assert torch.equal(shuffled[100:], torch.arange(100, 103))
    assert torch.equal(blocks - blocks[:, :1], torch.arange(10).expand(10, 10))
    first = blocks[:, 0] // 10
    assert sorted(first.tolist()) == list(range(10)) and (first != torch.arange(10)).all()
    some = bend.shuffle(numbered(100), 10, [0], 0.4, seeded())[0, 0].view(10, 10)[:, 0] // 10
    assert (some != torch.arange(10)).sum() == 4


def test_hold_stutter_reverse() -> None:
    frame = torch.arange(FRAMES)
    assert torch.equal(bend.hold(numbered(), 8, [2], 1.0, seeded())[0, 2], frame // 8 * 8)
    assert torch.equal(bend.reverse(numbered(), None, [2], 1.0, seeded())[0, 2], frame.flip(0))
    back = bend.reverse(numbered(), 10, [2], 1.0, seeded())[0, 2]
    assert back[:10].tolist() == list(range(9, -1, -1)) and back[100:].tolist() == [102, 101, 100]
    played = bend.stutter(numbered(), 4, [2], 1.0, seeded())[0, 2]
    assert torch.equal(played % 4, frame % 4)
    source, block = played // 4, frame // 4
    repeats = torch.unique_consecutive(source, return_counts=True)[1]
    assert ((block - source) >= 0).all() and ((block - source) <= 3).all()
    # Phrases of 2 to 4 blocks; the end may cut the last one.
    assert set(repeats[:-1].tolist()) <= {8, 12, 16} and len(set(repeats.tolist())) > 1


def test_permute_codes() -> None:
    codes = some_codes(2000)
    codes[0, 1, :3] = HOLE
    bent = bend.permute_codes(codes, [0, 1], CARDINALITY, 1.0, seeded())
    tables = []
    for book in (0, 1):
        kept = codes[:, book] != HOLE
        pairs = set(zip(codes[:, book][kept].tolist(), bent[:, book][kept].tolist()))
        table = dict(pairs)
        assert len(pairs) == CARDINALITY and set(table.values()) == set(range(CARDINALITY))
        assert all(key != value for key, value in table.items())
        tables.append(table)
    assert tables[0] != tables[1] and (bent[0, 1, :3] == HOLE).all()
    # Entries of another codec move as those of the codec's own do, and stay in their table.
    looked_up = bend.lookup(codes, 1, CARDINALITY, 1.0, seeded())
    moved = bend.permute_codes(looked_up, [0, 1], CARDINALITY, 1.0, seeded())
    assert torch.equal(moved, bend.lookup(bent, 1, CARDINALITY, 1.0, seeded()))


@pytest.mark.parametrize(
    "frames, speed, expected", [(5, 2, [0, 2, 4]), (3, 0.5, [0, 0, 1, 1, 2, 2]), (4, 1, [0, 1, 2, 3])]
)
def test_rate(frames: int, speed: float, expected: list[int]) -> None:
    assert bend.rate(numbered(frames), speed)[0, 3].tolist() == expected


def test_rate_is_exact() -> None:
    """Decimal speeds do not lose a frame to rounding."""
    assert bend.rate(numbered(101), 0.29)[0, 0, 100] == 29
    for speed in (0.05, 0.1, 0.3, 0.7, 1.1, 3.3, 20):
        for frames in (1, 2, 7, 500):
            bent = bend.rate(numbered(frames), speed)[0, 0]
            assert len(bent) * speed >= frames - 1e-6 > (len(bent) - 1) * speed - 1e-6 and bent.max() < frames


def test_player_plays_what_is_left(codec: EncodecModel, other: EncodecModel) -> None:
    player = codec.bent_decoder([("other", other)])
    codes = some_codes(20)
    with torch.no_grad():
        assert torch.equal(player.decode(codes), codec.decode(codes))
        # A quantiser of fewer codebooks is what dropping the last ones is.
        assert torch.allclose(
            player.decode(bend.drop(codes, [2, 3], 1, seeded())), codec.decode(codes[:, :2]), atol=1e-6
        )
        first_gone = codec.decode_latent(codes) - codec.decode_latent(codes[:, :1])
        played = player.decode(bend.drop(codes, [0], 1, seeded()))
        assert torch.allclose(played, codec.decoder(first_gone), atol=1e-5)
        assert (played - codec.decode(codes)).abs().max() > 1e-3
        looked_up = player.decode(bend.lookup(codes, 1, CARDINALITY, 1.0, seeded()))
        assert torch.allclose(looked_up, codec.decoder(other.decode_latent(codes)), atol=1e-6)
        back = bend.lookup(bend.lookup(codes, 1, CARDINALITY, 1.0, seeded()), 0, CARDINALITY, 1.0, seeded())
        assert torch.equal(back, codes)


@pytest.mark.parametrize("cardinality, books", [(24, 2), (100, 6)])
def test_lookup_in_a_codec_of_another_shape(codec: EncodecModel, cardinality: int, books: int) -> None:
    """Fewer or more codes are read modulo their number, fewer codebooks leave the rest to the codec's own."""
    quantizer = ResidualVectorQuantizer(32, n_q=books, bins=cardinality)
    other = EncodecModel(codec.encoder, codec.decoder, quantizer, 50, 32000, 1)
    codes = some_codes(20)
    expected = codec.decode_latent(codes) - codec.decode_latent(codes[:, :books])
    expected = expected + other.decode_latent(codes[:, :books] % cardinality)
    player = codec.bent_decoder([("other", other)])
    played = player.decode_latent(bend.lookup(codes, 1, CARDINALITY, 1.0, seeded()))
    assert torch.allclose(played, expected, atol=1e-5)


def test_player_in_blocks(codec: EncodecModel) -> None:
    """Long audio, played block by block, with holes."""
    codes = bend.drop(some_codes(2000, batch=1), [0], 0.5, seeded())
    player = codec.bent_decoder()
    with torch.no_grad():
        played = player.decode(codes)
        whole = codec.decoder(player.decode_latent(codes))
    assert played.shape == whole.shape and (played - whole).abs().max() < 1e-4


def test_codecs_that_do_not_fit(codec: EncodecModel, golden: Path) -> None:
    wide = load_compression_model(golden / "codec_hf")
    with pytest.raises(
        UserError, match=r"wide has code vectors 8 wide, the codec 32; look codes up in a codec of the same width"
    ):
        codec.bent_decoder([("wide", wide)])
    unquantised = EncodecModel(codec.encoder, codec.decoder, DummyQuantizer(), 50, 32000, 1)
    with pytest.raises(UserError, match="the codec has no codebooks"):
        unquantised.bent_decoder()


def test_parse(codec: EncodecModel) -> None:
    recipe = [("hold", "0.25@1,3"), ("drop", "2,2,4"), ("swap", "4:1"), ("stutter", "3f"), ("reverse", "all@2")]
    recipe += [("permute-codes", "all"), ("rate", ".5"), ("lookup", "some/codec")]
    every = (1, 2, 3, 4)
    bends = parse_recipe(recipe, codec)
    assert bends == [
        Bend("hold", (1, 3), frames=12),
        Bend("drop", (2, 4)),
        Bend("swap", (4, 1)),
        Bend("stutter", every, frames=3),
        Bend("reverse", (2,)),
        Bend("permute-codes", every),
        Bend("rate", every, speed=0.5),
        Bend("lookup", every, codec="some/codec"),
    ]
    assert total_speed(bends) == 0.5 and lookup_names(bends) == ["some/codec"]


@pytest.mark.parametrize(
    "option, value",
    [
        *(("drop", value) for value in ("0", "5", "all", "", "x", "1,", "-1", "²")),
        *(("swap", value) for value in ("1", "1:1", "1:5", "1:2:3", "a:b")),
        *(("hold", value) for value in ("", "0", "1f", "0.01", "nan", "inf", "-1", "2.5f", "0.2@", "0.2@9", "all")),
        *(("rate", value) for value in ("0", "-1", "nan", "21", "0.01", "fast")),
        *(("permute-codes", value) for value in ("9", "")),
        ("reverse", "1f"),
        ("shuffle", "0.001"),
    ],
)
def test_parse_refusals(codec: EncodecModel, option: str, value: str) -> None:
    with pytest.raises(UserError, match=f"^--{option} ") as error:
        parse_recipe([(option, value)], codec)
    assert "\n" not in str(error.value)


def test_recipes_apply_in_order(codec: EncodecModel) -> None:
    codes = numbered()
    there: Recipe = [("hold", "10f"), ("reverse", "all")]
    forth = bend_codes(codes, parse_recipe(there, codec), CARDINALITY, 1, seeded())
    back = bend_codes(codes, parse_recipe(there[::-1], codec), CARDINALITY, 1, seeded())
    assert forth[0, 0, :3].tolist() == [100, 100, 100] and forth[0, 0, -1] == 0
    assert back[0, 0, :3].tolist() == [102, 102, 102] and back[0, 0, -1] == 2
    rated = bend_codes(codes, parse_recipe([("rate", "2"), ("hold", "5f")], codec), CARDINALITY, 1, seeded())
    assert rated[0, 0].tolist() == [frame // 5 * 10 for frame in range(52)]
    with pytest.raises(UserError, match="every codebook is dropped"):
        bend_codes(codes, parse_recipe([("drop", "1,2"), ("drop", "3,4")], codec), CARDINALITY, 1, seeded())


def test_random_recipes(codec: EncodecModel) -> None:
    """Any that can be drawn can be read and played, keeps time, and is the seed's own."""
    player, drawn = codec.bent_decoder(), []
    for seed in range(60):
        recipe, amount = random_recipe(4, seeded(seed))
        assert (recipe, amount) == random_recipe(4, seeded(seed))
        bends = parse_recipe(recipe, codec)
        bent = bend_codes(some_codes(), bends, CARDINALITY, amount, seeded(seed))
        assert bent.shape == some_codes().shape and not torch.equal(bent, some_codes())
        drawn.append((recipe, amount))
    with torch.no_grad():
        assert torch.isfinite(player.decode(bent)).all()
    assert len({str(each) for each in drawn}) > 55
    used = {option for recipe, _ in drawn for option, _ in recipe}
    assert used == {"drop", "swap", "shuffle", "hold", "stutter", "reverse", "permute-codes"}
    assert not {option for seed in range(30) for option, _ in random_recipe(1, seeded(seed))[0]} & {"drop", "swap"}
