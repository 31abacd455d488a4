"""Twins on purpose: each backbone's forward in numpy and as a LiteRT graph, within 1e-5 of the largest score.

The template is written once per base; every adaptation goes through payload bytes, and into a copy of the template's bytes.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, Dense, LowRank, decode_payload, encode_payload
from ossia.backbones import BACKBONES
from ossia.device.runtimes import DeviceRanker, numpy_ranker
from ossia.types import Candidates

interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="ossia[litert] is not installed")
litert = importlib.import_module("ossia.export.litert_template")

BOUND = 1e-5  # of the largest in the list; the worst that was seen at the reference sizes is 6e-7
INT8_BOUND = 0.03  # activations are rounded by LiteRT's rule; the worst that was seen is 0.008
ITEMS = 40
EVERYTHING = np.arange(-2, ITEMS + 3)
KINDS = ["sasrec", "caser", "gru4rec", "sasrec with valves", "sasrec with a tail"]
REFERENCE = {
    "sasrec": {"length": 50, "hidden": 256},
    "caser": {"length": 5, "vertical": 4, "horizontal": 16},
    "gru4rec": {"length": 20, "layers": 1, "hidden": 128},
}
PLAIN = interpreters.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


@dataclass(frozen=True, eq=False)
class Twins:
    """One adaptation of one base, as the device ranks with it and as LiteRT does."""

    ranker: DeviceRanker
    interpreter: interpreters.Interpreter
    length: int

    def agree(self, history: list[int], bound: float = BOUND) -> None:
        """Hold every score, and the state, to each other."""
        scores, state = run(self.interpreter, pad(history, self.length), EVERYTHING)
        read = np.array(history, np.int64)
        same(scores, self.ranker.scores(read, Candidates(EVERYTHING)), bound)
        same(state, self.ranker.state(read), bound)


def same(got: np.ndarray, expected: np.ndarray, bound: float) -> None:
    finite = np.isfinite(expected)
    assert (np.isfinite(got) == finite).all()
    assert np.abs(got[finite] - expected[finite]).max(initial=0) <= bound * np.abs(expected[finite]).max(initial=0)


def pad(history: list[int], length: int) -> np.ndarray:
    """What the caller of a template does: skip unknown items, keep the newest, put −1 above."""
    known = [item for item in history if 0 <= item < ITEMS][-length:]
    return np.array([-1] * (length - len(known)) + known, np.int32)


def open_file(path: Path, **options: object) -> interpreters.Interpreter:
    interpreter = interpreters.Interpreter(model_path=str(path), num_threads=1, **options)
    interpreter.resize_tensor_input(interpreter.get_input_details()[1]["index"], [len(EVERYTHING)])
    interpreter.allocate_tensors()
    return interpreter


def run(interpreter: interpreters.Interpreter, history: np.ndarray, candidates: np.ndarray) -> list[np.ndarray]:
    for details, value in zip(interpreter.get_input_details(), (history, candidates), strict=True):
        interpreter.set_tensor(details["index"], value.astype(np.int32))
    interpreter.invoke()
    return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]


def adaptations(base: Base) -> Iterator[Adaptation]:
    """The base itself; each term alone; all of them."""
    random, slots = np.random.default_rng(0), base.manifest.slots
    gates, codes, rows = (
        random.integers(0, end, size).astype(np.uint8)
        for size, end in ((len(base.manifest.gates), 2), (base.channels, 4), (ITEMS, 4))
    )
    shift = Dense(slots[0].name, (0.1 * random.standard_normal((slots[0].channels, slots[0].inputs))).astype(np.float16))
    left, right = ((0.3 * random.standard_normal(size)).astype(np.float16) for size in (slots[-1].channels, slots[-1].inputs))
    yield from (Adaptation(), Adaptation(gates=gates), Adaptation(codes=codes), Adaptation(rows=rows))
    yield Adaptation(deltas=(LowRank(slots[-1].name, left[:, None], right[None]),))
    yield Adaptation(gates, codes, (shift,), rows)


@pytest.fixture(scope="module", params=KINDS)
def twins(
    request: pytest.FixtureRequest, base_of: Callable[..., Base], tmp_path_factory: pytest.TempPathFactory
) -> list[Twins]:
    """Every adaptation, through the bytes that a device gets."""
    base, folder = base_of(request.param, items=ITEMS), tmp_path_factory.mktemp("template")
    litert.write_template(base, folder / "template.tflite")
    made = []
    for adaptation in adaptations(base):
        received = decode_payload(base, encode_payload(base, adaptation, issued=0, expiry=1), allow_unsigned=True).adaptation
        litert.write_own(base, received, folder / "template.tflite", folder / "own.tflite")
        opened = open_file(folder / "own.tflite")
        made.append(Twins(numpy_ranker(base, received), opened, base.manifest.shape["length"]))
    return made


@settings(max_examples=50)
@given(which=st.integers(0, 5), history=st.lists(st.integers(-2, ITEMS + 2), max_size=12))
def test_a_template_scores_as_the_device_does_for_any_payload_and_history(
    twins: list[Twins], which: int, history: list[int]
) -> None:
    twins[which].agree(history)


@pytest.mark.parametrize("history", [[], [-1, 99], [3], [5] * 9, list(range(30))])
def test_the_odd_histories_too(twins: list[Twins], history: list[int]) -> None:
    for pair in twins:
        pair.agree(history)


@pytest.mark.parametrize("kind", REFERENCE)
def test_the_reference_sizes_too_with_xnnpack_without_it_and_in_integers(
    kind: str, base_of: Callable[..., Base], tmp_path: Path
) -> None:
    base = base_of(kind, items=ITEMS, dim=64, **REFERENCE[kind])
    codes = np.random.default_rng(1).integers(0, 4, base.channels).astype(np.uint8)
    for int8, bound in ((False, BOUND), (True, INT8_BOUND)):
        litert.write_template(base, tmp_path / "template.tflite", int8=int8)
        for adaptation in (Adaptation(), Adaptation(codes=codes)):
            litert.write_own(base, adaptation, tmp_path / "template.tflite", tmp_path / "own.tflite")
            for options in ({}, {"experimental_op_resolver_type": PLAIN}):
                opened = open_file(tmp_path / "own.tflite", **options)
                Twins(numpy_ranker(base, adaptation), opened, base.manifest.shape["length"]).agree(list(range(ITEMS)), bound)


def test_whatever_a_device_can_run_can_be_exported() -> None:
    assert set(litert.ENCODERS) == set(BACKBONES)
