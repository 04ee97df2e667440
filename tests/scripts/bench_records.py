"""Made-up lines of records, which tests of benchmarks share."""

SPEED = {"GB/s": 20.0, "GFLOP/s float32": 100.0}
FACTS = {
    "lm_parameters": 134_246_400,
    "codec_parameters": 56_884_674,
    "numbers_per_step": 117_460_992,
    "decoder_flops": 7.775e9,
    "frame_rate": 50,
    "extra_steps": 3,
    "text": False,
}


def stamp(session: str = "2026-01-02T00:00:00+00:00", machine: str = "a machine, 2 cores") -> dict:
    return {
        "date": session,
        "session": session,
        "commit": "abc1234",
        "machine": machine,
        "versions": {"python": "3.12.0", "torch": "2.9.0"},
    }


def played(total: float, run: int, engine: str = "torch", batch: int = 1, **more: object) -> dict:
    """A line of a record in which the language model took all but two seconds."""
    phases = {"imports": 1.0, "load": 0.5, "lm": total - 2.0, "decode": 0.4, "write": 0.1}
    record = {**stamp(), "what": "play", "model": "micro", "weights": "random", "engine": engine, "where": "cpu"}
    record |= {"batch": batch, "seconds": 10.0, "run": run, "phases": phases, "total": total, "precision": "int8"}
    return {**record, "peak_mib": 500.0 + run, "device": "cpu", **more}
