"""The benchmark of playing: command line, order, medians and floors, a real run on a tiny model, the figure."""

import json
import math
import sys
from pathlib import Path

import bench
import pytest
import torch
from bench_records import FACTS, SPEED, played, stamp
from benchmarks import divergence, facts, house, play, process, summary, weights
from benchmarks.engines import Engine
from benchmarks.figure import caption, draw
from benchmarks.process import ProcessFailed
from benchmarks.record import Session, append, newest, read
from benchmarks.weights import Source
from PIL import Image


@pytest.fixture
def records() -> list[dict]:
    """One model, two engines, three runs; measurements of an earlier session and of another machine beside them."""
    lines = [
        {**stamp(), "what": "machine", "device": "cpu", "speed": SPEED},
        {**stamp(), "what": "machine", "device": "cpu", "speed": {name: value / 2 for name, value in SPEED.items()}},
        {**stamp(), "what": "model", "model": "micro", "weights": "random", "facts": FACTS},
        {**played(99.0, 0), **stamp("2026-01-01T00:00:00+00:00")},
        {**played(1.0, 0), **stamp(machine="another")},
    ]
    for run, total in enumerate((8.0, 7.0, 12.0)):
        lines.append(played(total, run, warm={"lm": 5.0, "decode": 0.4, "total": 5.4}))
        lines.append({**played(total, run), "what": "first", "first_audio": 2.0 + run})
        lines.append(played(2 * total, run, "torch-float32", precision="float32"))
    return lines


def test_playing_is_what_is_measured_unless_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(bench, "play", asked.append)
    bench.main([])
    bench.main(["--models", "pico", "--runs", "2"])
    bench.main(["play", "--batches", "3"])
    assert [options.what for options in asked] == ["play"] * 3
    assert asked[0].models == ["micro", "small"] and asked[0].batches == [1, 10] and asked[0].runs == 5
    assert asked[1].models == ["pico"] and asked[1].runs == 2
    assert asked[2].batches == [3]


@pytest.mark.parametrize("arguments", [["--runs", "0"], ["--seconds", "nan"], ["--engines", "abacus"], ["boot"]])
def test_senseless_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(arguments)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_older_measurements_are_appended_to_their_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(house, "IMPORT_MUSICGEN", "print(0.5, 0.25)")
    bench.main(["import", "--runs", "2"])
    line = read(tmp_path / "outputs" / "bench.jsonl")[0]
    assert line["what"] == "import" and line["runs"] == 2
    assert line["figures"]["from audiocraft.models import MusicGen beyond torch, s"]["median"] == 0.25
    assert "import audiocraft, s" in capsys.readouterr().out


def test_order_alternates_until_each_case_has_had_its_runs() -> None:
    source = Source("micro", "somewhere", "random")
    engines = [Engine(name, source, "cpu", Path()) for name in ("torch", "torch-float32", "player-int8")]
    cases = [play.Case(engine, 1, runs) for engine, runs in zip(engines, (3, 1, 2))]
    order = [(case.engine.name, number) for case, number in play.alternate(cases)]
    assert order == [
        ("torch", 0),
        ("torch-float32", 0),
        ("player-int8", 0),
        ("player-int8", 1),
        ("torch", 1),
        ("torch", 2),
    ]


def test_large_models_and_batches_get_fewer_runs() -> None:
    assert [play.count_runs(5, batch, size) for size in (1e8, 4e8) for batch in (1, 10)] == [5, 2, 2, 1]


def test_a_process_is_timed_from_before_its_start() -> None:
    code = f"import os, time; print(time.monotonic() - float(os.environ['{process.START_VARIABLE}']))"
    done = process.run([sys.executable, "-c", code])
    assert 0 < float(done.printed) <= done.wall_s
    assert done.peak_mib > 1 and done.cpu_s > 0


def test_a_process_that_fails_says_why() -> None:
    mistake = "import sys; print('a warning', file=sys.stderr); sys.exit('error: no such model')"
    with pytest.raises(ProcessFailed, match=r"^no such model$"):
        process.run([sys.executable, "-c", mistake])
    assert process.run([sys.executable, "-c", "print(1); raise SystemExit(1)"], accepted=(0, 1)).printed == "1\n"


def test_medians_are_of_the_newest_session_on_this_machine(records: list[dict]) -> None:
    result = summary.summarise(records)
    ours, full = result.rows
    assert (ours.engine, ours.precision, ours.totals, ours.total) == ("torch", "int8", [8.0, 7.0, 12.0], 8.0)
    assert ours.phases == {"imports": 1.0, "load": 0.5, "lm": 6.0, "decode": 0.4, "write": 0.1}
    assert ours.first == 3.0 and ours.warm["total"] == 5.4 and ours.peak_mib == 502.0
    assert full.first is None and full.warm == {}
    assert ours.real_time == pytest.approx(10 / 8)
    assert result.models == ["micro"] and result.batches == [1]


def test_floors_are_bytes_by_bandwidth_and_operations_by_their_rate(records: list[dict]) -> None:
    ours, full = summary.summarise(records).rows
    assert ours.steps == 503
    assert ours.floor_lm == pytest.approx(503 * 117_460_992 / 20e9)
    assert full.floor_lm == pytest.approx(4 * 503 * 117_460_992 / 20e9)
    assert ours.floor_decode == pytest.approx(10 * 7.775e9 / 100e9)


def test_rates_that_the_last_line_lacks_are_kept(records: list[dict]) -> None:
    newer = {**stamp(), "what": "machine", "device": "cpu", "speed": {"GB/s": 30.0}}
    result = summary.summarise([*records, newer])
    assert result.speed == {**SPEED, "GB/s": 30.0}
    assert result.rows[0].floor_decode == pytest.approx(10 * 7.775e9 / 100e9)


def test_the_peers_record_is_whole() -> None:
    rows = {(row.model, row.batch): row for row in summary.peer_rows()}
    assert set(rows) == {("micro", 1), ("micro", 10), ("small", 1), ("small", 10)}
    assert rows["small", 1].phases["lm"] == 148.7 and rows["micro", 1].total == 49.4
    for row in rows.values():
        assert row.recorded
        assert sum(row.phases.values()) == pytest.approx(row.total, abs=0.5)


def test_the_table_says_every_number(records: list[dict]) -> None:
    rows = [*summary.summarise(records).rows, *summary.peer_rows()]
    text = summary.table(rows)
    assert len(text.splitlines()) == 1 + len(rows)
    assert "torch (int8)" in text and "7.00–12.00" in text and "(recorded)" in text
    assert f"{1e3 * 6 / 503:.1f}/{1e3 * 117_460_992 / 20e9:.1f}" in text


def test_a_figure_is_drawn_from_the_record_alone(records: list[dict], tmp_path: Path) -> None:
    for record in records:
        append(tmp_path / "play.jsonl", record)
    bench.main(["--draw-only", "--out", str(tmp_path)])
    first = (tmp_path / "play.png").read_bytes()
    bench.main(["--draw-only", "--out", str(tmp_path)])
    assert (tmp_path / "play.png").read_bytes() == first
    assert len(first) < 300_000
    assert Image.open(tmp_path / "play.png").width > 1000


def test_the_caption_names_machine_commit_and_what_was_recorded(records: list[dict]) -> None:
    result = summary.summarise(records)
    text = " ".join(caption(result, with_peer=True))
    for word in (
        "a machine, 2 cores",
        "abc1234",
        "torch 2.9.0",
        "andom weights",
        "Recorded: audiocraft 1.3.0",
        "20 GB/s",
    ):
        assert word in text
    assert "Recorded" not in " ".join(caption(result, with_peer=False))


def test_the_caption_names_the_models_that_were_given_a_text(records: list[dict]) -> None:
    assert "tokens" not in " ".join(caption(summary.summarise(records), with_peer=False))
    records += [{**played(9.0, 0, text_tokens=14), "model": name} for name in ("medium", "my singer")]
    text = " ".join(caption(summary.summarise(records), with_peer=False))
    assert " medium, my singer: a text of 14 tokens" in text and "small" not in text


def test_models_without_a_peer_are_drawn_too(records: list[dict], tmp_path: Path) -> None:
    for record in records:
        record["model"] = "my model"
    draw(summary.summarise(records), [], tmp_path / "play.png")
    assert (tmp_path / "play.png").is_file()


def test_nothing_to_draw_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no record"):
        bench.main(["--draw-only", "--out", str(tmp_path)])
    append(tmp_path / "play.jsonl", {**stamp(), "what": "machine", "device": "cpu", "speed": SPEED})
    with pytest.raises(SystemExit, match="holds no measurement"):
        bench.main(["--draw-only", "--out", str(tmp_path)])
    with (tmp_path / "play.jsonl").open("a") as file:
        file.write("{half a li\n")
    with pytest.raises(SystemExit, match=r"line 2 of .* is damaged"):
        bench.main(["--draw-only", "--out", str(tmp_path)])


def test_newest_keeps_one_session_of_each_case() -> None:
    lines = [{"session": session, "case": case} for session, case in (("1", "a"), ("2", "a"), ("2", "a"), ("1", "b"))]
    assert newest(lines, "case") == [lines[1], lines[2], lines[3]]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico with a codec of a few thousand parameters."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    weights.make_random("pico", folder, tiny=True)
    return folder


def test_a_tiny_model_is_measured_from_start_to_figure(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = play.measured
    monkeypatch.setattr(play, "measured", lambda to, **how: SPEED if "machine" in to else measured(to, **how))
    out = tmp_path / "out"
    arguments = ["--models", str(tiny_model), "nosuch/model", "--batches", "2", "--engines", "torch-float32"]
    bench.main([*arguments, "--seconds", "0.4", "--runs", "1", "--out", str(out)])
    record = next(line for line in read(out / "play.jsonl") if line["what"] == "play")
    assert record["model"] == "tiny" and record["batch"] == 2 and record["precision"] == "float32"
    assert all(value >= 0 for value in record["phases"].values())
    assert sum(record["phases"].values()) == pytest.approx(record["total"], abs=0.01)
    assert record["warm"]["total"] < record["total"]
    assert record["peak_mib"] > 50
    assert (out / "play.png").is_file()
    assert "skipped: nosuch/model" in capsys.readouterr().out


def test_divergence_of_both_engines_is_small_and_not_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bench.main(["divergence", str(tiny_model), "--seconds", "1"])
    (line,) = read(tmp_path / "outputs" / "bench.jsonl")
    engines = [value for name, value in line["figures"].items() if "int8" in name]
    assert "player-int8" in line["figures"]
    assert all(0 < engine["kl"] <= engine["kl_worst"] < 0.01 and engine["same_first"] > 0.8 for engine in engines)
    assert "player-int8" in capsys.readouterr().out


def test_divergence_is_that_of_the_definition() -> None:
    one, other = torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    by_hand = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    figures = divergence.compare(one.log(), other.log())
    assert figures["kl"] == pytest.approx(by_hand / 2) and figures["kl_worst"] == pytest.approx(by_hand)
    assert figures["same_first"] == 0.5


def test_random_weights_are_equal_each_time_and_hold_no_path(tiny_model: Path, tmp_path: Path) -> None:
    weights.make_random("pico", tmp_path / "again", tiny=True)
    one, other = (torch.load(f / "state_dict.bin", weights_only=True) for f in (tiny_model, tmp_path / "again"))
    assert one["xp.cfg"] == other["xp.cfg"]
    assert all(torch.equal(value, other["best_state"][name]) for name, value in one["best_state"].items())


def test_random_models_with_text_bring_their_t5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audiocraft.models import MusicGen

    monkeypatch.setattr(weights, "TEXT_SCALES", ("pico",))
    weights.make_random("pico", tmp_path / "model", tiny=True)
    (tmp_path / "model").rename(tmp_path / "moved")
    model = MusicGen.get_pretrained(tmp_path / "moved", "cpu")
    model.set_generation_params(duration=0.2)
    assert model.generate(["a drum"], seed=0).shape[-1] == 0.2 * model.sample_rate


def test_published_weights_that_nobody_publishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match="nobody publishes nano"):
        weights.find_model("nano", "hub", tmp_path)


def test_numbers_per_step_leave_out_tables_and_texts() -> None:
    from benchmarks.sizes import language_model

    for scale, numbers in (("micro", 117_460_992), ("small", 360_859_648)):
        assert facts.numbers_per_step(language_model(scale).state_dict()) == numbers


def test_operations_of_the_decoder_are_those_of_its_layers() -> None:
    from benchmarks.sizes import full_codec

    # 78 GFLOP for ten seconds; 1.68 of each second's 7.78 are the LSTM's.
    assert facts.decoder_flops(full_codec()) == pytest.approx(7.775e9, rel=1e-3)


def test_a_machine_has_a_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_PROBE_BYTES", {"cpu": 1 << 22})
    monkeypatch.setattr(facts, "_PROBE_SIDE", {"cpu": 64})
    speed = facts.measure_machine("cpu")
    assert set(speed) == set(SPEED) and all(value > 0 for value in speed.values())
    json.dumps(speed)


def test_float32_is_played_with_few_clips_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "find_model", lambda *_: Source("micro", "somewhere", "random"))
    monkeypatch.setattr(play, "measured", lambda *_, **__: FACTS)
    monkeypatch.setattr(Engine, "prepare", lambda self: None)
    for engines, float32 in ((None, [1]), (["torch-float32"], [10, 1])):
        plan = play.Plan(["micro"], [10, 1], engines, 10.0, 5, "cpu", "random", tmp_path)
        cases = play._prepare(plan, "micro", Session(tmp_path / "play.jsonl"))
        assert [case.batch for case in cases if case.engine.name == "torch-float32"] == float32
        assert [case.batch for case in cases if case.engine.name == "torch"] == ([10, 1] if engines is None else [])
