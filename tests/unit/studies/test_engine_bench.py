"""The bench of the engine: every contender is measured or left out with a reason, and costs add up."""

from pathlib import Path

import numpy as np
import pytest

from ossia.cli.bench_engine import _measure
from ossia.device import engine as native
from ossia.studies import engine_bench, engine_contenders
from ossia.studies.engine_bench import measure
from ossia.studies.engine_contenders import CONTENDERS, TOP, Contender, left_out, make_task, numpy_contender
from ossia.studies.engine_costs import measure_costs
from ossia.studies.engine_litert import export_litert, litert_calls

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


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec", "caser"])
def test_litert_is_asked_the_same_and_answers_the_same(base_of, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="ossia[litert] is not installed")
    base = base_of(kind, items=200)
    task = make_task(base)
    export_litert(base, len(task.candidates), TOP, tmp_path)
    expected = numpy_contender(task)
    for form, bound in (("float32", 1e-5), ("int8", 0.03)):
        contender = Contender(*litert_calls(tmp_path, form, task.history, task.candidates))
        (scores,), (best, items), right = contender.score(), contender.top(), expected.top()
        assert np.abs(scores - expected.score()).max() <= bound * np.abs(expected.score()).max()
        assert np.abs(best[0] - right.scores).max() <= bound * np.abs(right.scores).max()
        assert form == "int8" or items[0].tolist() == right.items.tolist()
        assert measure(f"litert {'fp32' if form == 'float32' else form}", base.path, tmp_path, 20).candidates_us > 0


def test_a_runtime_that_is_not_installed_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr(engine_contenders.importlib.util, "find_spec", lambda name: None)
    assert left_out("litert int8") == "ai_edge_litert is not installed"
    assert left_out("numpy") is None


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
