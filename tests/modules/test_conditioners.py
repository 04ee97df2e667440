"""Attributes, dropout, and how conditions enter; T5's numbers are in the golden tests of the language model."""

import sys

import pytest
import torch

from audiocraft.errors import UserError
from audiocraft.modules.conditioners import (
    AttributeDropout,
    ClassifierFreeGuidanceDropout,
    ConditionFuser,
    ConditioningAttributes,
    ConditioningProvider,
    JointEmbedCondition,
    T5Conditioner,
    WavCondition,
    WordConditioner,
    dropout_condition,
    nullify_condition,
)


def sample() -> ConditioningAttributes:
    wav = WavCondition(torch.ones(1, 2, 9), torch.tensor([9]), [32000], ["a.wav"], [0.5])
    joint = JointEmbedCondition(torch.ones(1, 1, 9), ["jungle"], torch.tensor([9]), [32000], ["a.wav"], [0.5])
    return ConditioningAttributes(text={"description": "dub"}, wav={"self_wav": wav}, joint_embed={"joint": joint})


def test_attributes():
    one = sample()
    assert list(one.text_attributes) == ["description"] and list(one.wav_attributes) == ["self_wav"]
    assert {kind: list(names) for kind, names in one.attributes.items()} == {
        "text": ["description"],
        "wav": ["self_wav"],
        "joint_embed": ["joint"],
    }
    flat = one.to_flat_dict()
    assert list(flat) == ["text.description", "wav.self_wav", "joint_embed.joint"]
    assert ConditioningAttributes.from_flat_dict(flat) == one
    with pytest.raises(KeyError):
        ConditioningAttributes.from_flat_dict({"smell.fresh": 1})


def test_dropping_leaves_the_original():
    one = sample()
    assert dropout_condition(one, "text", "description").text == {"description": None}
    wav = dropout_condition(one, "wav", "self_wav").wav["self_wav"]
    assert wav.wav.shape == (1, 2, 1) and not wav.wav.any() and wav.length.tolist() == [0] and wav.path == [None]
    joint = dropout_condition(one, "joint_embed", "joint").joint_embed["joint"]
    assert joint.text == [None] and not joint.wav.any()
    assert one.to_flat_dict().keys() == sample().to_flat_dict().keys()
    assert one.text == {"description": "dub"} and one.wav["self_wav"].wav.all()
    with pytest.raises(KeyError):
        dropout_condition(one, "text", "mood")


def test_nullify_condition():
    cond, mask = nullify_condition((torch.ones(3, 5, 8), torch.ones(3, 5)))
    assert cond.shape == (3, 1, 8) and not cond.any()
    assert mask.shape == (3, 1) and not mask.any()


def test_dropout_rates_and_modes():
    torch.manual_seed(0)
    many = [ConditioningAttributes(text={"description": "a", "mood": "b"}) for _ in range(1000)]
    single = AttributeDropout({"text": {"description": 0.3}})
    kept = single(many)
    assert 250 < sum(s.text["description"] is None for s in kept) < 350
    assert all(s.text["mood"] == "b" for s in kept)
    everything = ClassifierFreeGuidanceDropout(0.3)
    dropped = [s.text for s in everything(many)]
    assert 250 < dropped.count({"description": None, "mood": None}) < 350
    assert dropped.count({"description": None, "mood": None}) + dropped.count(many[0].text) == 1000
    assert single.eval()(many) is many and everything.eval()(many) is many
    assert AttributeDropout({"text": {"mood": 1.0}}, active_on_eval=True).eval()(many)[0].text["mood"] is None


def test_fuser():
    fuser = ConditionFuser({"sum": ["a"], "prepend": ["b"], "cross": ["c", "d"], "input_interpolate": []})
    x = torch.randn(2, 6, 8)
    conditions = {
        name: (torch.randn(2, n, 8), torch.ones(2, n)) for name, n in (("a", 1), ("b", 3), ("c", 4), ("d", 2))
    }
    out, cross = fuser(x, conditions)
    torch.testing.assert_close(out[:, :3], conditions["b"][0])
    torch.testing.assert_close(out[:, 3:], x + conditions["a"][0])
    torch.testing.assert_close(cross, torch.cat([conditions["c"][0], conditions["d"][0]], 1))
    out, cross = ConditionFuser({})(x, {})
    assert torch.equal(out, x) and cross is None
    moved = ConditionFuser({"cross": ["c"]}, cross_attention_pos_emb=True, cross_attention_pos_emb_scale=2.0)
    _, cross = moved(x, {"c": conditions["c"]})
    added = (cross - conditions["c"][0])[0, 0]
    torch.testing.assert_close(added, torch.tensor([2.0] * 4 + [0.0] * 4))


def test_fuser_refusals():
    with pytest.raises(UserError, match="input_interpolate"):
        ConditionFuser({"input_interpolate": ["a"]})
    with pytest.raises(UserError, match="twice"):
        ConditionFuser({"sum": ["a"], "cross": ["a"]})
    with pytest.raises(UserError, match="does not enter"):
        ConditionFuser({})(torch.zeros(1, 2, 4), {"a": (torch.zeros(1, 1, 4), torch.ones(1, 1))})
    with pytest.raises(UserError, match="one step"):
        ConditionFuser({"sum": ["a"]})(torch.zeros(1, 2, 4), {"a": (torch.zeros(1, 2, 4), torch.ones(1, 2))})


def test_empty_texts_need_no_encoder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    conditioner = T5Conditioner("t5-base", output_dim=16).eval()
    assert list(conditioner.state_dict()) == ["output_proj.weight", "output_proj.bias"]
    provider = ConditioningProvider({"description": conditioner})
    tokens = provider.tokenize([ConditioningAttributes(), ConditioningAttributes(text={"description": ""})])
    cond, mask = provider(tokens)["description"]
    assert cond.shape == (2, 1, 16) and not cond.any() and not mask.any()
    with pytest.raises(UserError, match=r"transformers sentencepiece"):
        provider.tokenize([ConditioningAttributes(text={"description": "dub"})])


def test_unknown_encoder_is_told():
    with pytest.raises(UserError, match=r"config\.json"):
        T5Conditioner("./nowhere", output_dim=16)


def test_options_of_the_peer():
    """Its signature, in its order; what is not served is refused."""
    conditioner = T5Conditioner("t5-small", 16, False, "cpu", "float32", 0.5, False)
    assert conditioner.word_dropout == 0.5 and conditioner.dim == 512
    for option in ({"finetune": True}, {"normalize_text": True}, {"autocast_dtype": "float16"}):
        with pytest.raises(UserError, match="is not served"):
            T5Conditioner("t5-small", 16, **option)
    drop = AttributeDropout({"text": {"description": 0.5}}, seed=1)
    many = [ConditioningAttributes(text={"description": "a"}) for _ in range(50)]
    kept = [s.text["description"] for s in drop(many)]
    torch.manual_seed(5)
    again = [s.text["description"] for s in AttributeDropout({"text": {"description": 0.5}}, seed=1)(many)]
    assert again == kept and len(set(kept)) == 2


def test_words():
    torch.manual_seed(0)
    conditioner = WordConditioner(output_dim=6)
    tokens = conditioner.tokenize(["Slow strings", None, "slow  drums fast", ""])
    assert tokens["attention_mask"].tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert torch.equal(
        tokens["input_ids"], conditioner.tokenize(["slow strings", None, "SLOW DRUMS FAST", ""])["input_ids"]
    )
    condition, mask = conditioner(tokens)
    assert condition.shape == (4, 3, 6) and torch.equal(mask, tokens["attention_mask"])
    assert torch.equal(condition.any(-1), mask.bool())
    assert torch.equal(condition[0, 0], condition[2, 0]) and not torch.equal(condition[0, 1], condition[2, 1])
    assert conditioner.tokenize([None])["input_ids"].shape == (1, 1)
