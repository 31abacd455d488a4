"""The bench of the engine: every contender is measured or left out with a reason, and costs add up."""

from pathlib import Path

import pytest

from ossia.cli.bench_engine import _measure
from ossia.device import engine as native
from ossia.studies import engine_bench
from ossia.studies.engine_bench import CONTENDERS, left_out, make_task, measure
from ossia.studies.engine_costs import measure_costs

needs_engine = pytest.mark.skipif(native.library() is None, reason="the engine is not built")


@needs_engine
@pytest.mark.parametrize("kind", ["sasrec", "gru4rec", "caser"])
def test_each_form_of_the_engine_and_numpy_are_measured(base_of, kind: str, tmp_path: Path) -> None:
    base, before = base_of(kind, items=200), native.path()
    names = [name for name in CONTENDERS if name.startswith(("engine", "numpy")) and left_out(name) is None]
    assert {"engine", "engine, half of the gates", "engine, rows of 4 bits", "numpy"} <= set(names)
    for name in names:
        measured = measure(name, base.path, tmp_path, 20)
        assert 0 < measured.candidates_us <= measured.candidates_p95_us
        assert (measured.fold_us is not None) == name.startswith("engine")
    native.path(before)


def test_a_contender_that_fails_is_left_out_with_its_last_words(base, tmp_path: Path, monkeypatch) -> None:
    def fail(name: str, *_: object) -> None:
        raise RuntimeError(f"{name} is out of order")

    monkeypatch.setattr(engine_bench, "measure_apart", fail)
    missing: dict[str, str] = {}
    assert list(_measure(["torch eager"], base, tmp_path, 20, missing)) == []
    assert missing == {"torch eager": "torch eager is out of order"}


def test_a_path_that_is_not_here_is_left_out() -> None:
    reasons = {name: left_out(name) for name in ("engine avx2", "engine neon")}
    assert any(reasons.values()), "no processor has both"


@needs_engine
def test_costs_are_not_negative_and_gates_share_what_is_not_fixed(base) -> None:
    costs = measure_costs(base, "here", 30)
    assert costs.runtime == f"engine {native.path()}"
    assert set(costs.gates_us) == set(base.manifest.gates)
    assert min([costs.fixed_us, costs.row_us, *costs.gates_us.values(), *costs.channels_us.values()]) >= 0


def test_the_task_is_a_full_history_and_a_hundred_candidates(base) -> None:
    task = make_task(base)
    assert (len(task.history), len(task.candidates)) == (base.manifest.shape["length"], 100)
