"""Twins on purpose: each backbone's forward in numpy and as an ONNX graph, within 1e-5 of the largest score.

The graph is exported once per base; every adaptation goes through payload bytes, and into the graph as replaced tensors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossia.adaptation import Adaptation, Base, Dense, LowRank, decode_payload, encode_payload
from ossia.backbones import BACKBONES
from ossia.device.runtimes import DeviceRanker, numpy_ranker
from ossia.export.template import ENCODERS, own_tensors, write_template
from ossia.types import Candidates

BOUND = 1e-5  # of the largest in the list; the worst that was seen at the reference sizes is 5e-7
ITEMS = 40
HISTORIES = st.lists(st.integers(-2, ITEMS + 2), max_size=12)  # unknown items among them, and more than any model here reads


ADAPTATIONS = 7
REFERENCE = {
    "sasrec": {"length": 50, "hidden": 256},
    "caser": {"vertical": 4, "horizontal": 16},
    "gru4rec": {"hidden": 128},
    "sasrec with valves": {"length": 50, "hidden": 64},
    "sasrec with a tail": {"length": 50, "hidden": 64},
}


@dataclass(frozen=True, eq=False)
class Twins:
    """One adaptation of one base, as the device ranks with it and as onnxruntime does."""

    ranker: DeviceRanker
    session: onnxruntime.InferenceSession

    def agree(self, history: list[int]) -> None:
        """Hold every score, and the state, to each other."""
        read, everything = np.array(history, np.int64), np.arange(-2, ITEMS + 3)
        scores, state = self.session.run(["scores", "state"], {"history": read, "candidates": everything})
        same(scores, self.ranker.scores(read, Candidates(everything)))
        same(state, self.ranker.state(read))


def same(got: np.ndarray, expected: np.ndarray) -> None:
    finite = np.isfinite(expected)
    assert (np.isfinite(got) == finite).all()
    assert np.abs(got[finite] - expected[finite]).max(initial=0) <= BOUND * np.abs(expected[finite]).max(initial=0)


def open_template(template: Path, own: dict[str, np.ndarray], **options: str) -> onnxruntime.InferenceSession:
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = 1
    for name, value in options.items():
        setattr(chosen, name, value)
    chosen.add_external_initializers(list(own), [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in own.values()])
    return onnxruntime.InferenceSession(str(template / "model.onnx"), chosen, providers=["CPUExecutionProvider"])


def adaptations(base: Base) -> Iterator[Adaptation]:
    """The base itself; each term alone; all of them, twice."""
    random = np.random.default_rng(0)
    yield Adaptation()
    for terms in (
        {"gates"},
        {"codes"},
        {"rows"},
        {"dense"},
        {"codes", "gates", "low rank", "rows"},
        {"codes", "rows", "gates"},
    ):
        gates, codes, rows = (
            random.integers(0, end, size).astype(np.uint8)
            for size, end in ((len(base.manifest.gates), 2), (base.channels, 4), (ITEMS, 4))
        )
        given = {"gates": gates, "codes": codes, "rows": rows}
        yield Adaptation(**{name: given[name] for name in given.keys() & terms}, deltas=tuple(deltas(base, terms, random)))


def deltas(base: Base, terms: set[str], random: np.random.Generator) -> Iterator[Dense | LowRank]:
    """A delta for every other slot."""
    for slot in base.manifest.slots[::2]:
        if "dense" in terms:
            yield Dense(slot.name, (0.1 * random.standard_normal((slot.channels, slot.inputs))).astype(np.float16))
        if "low rank" in terms:
            left, right = ((0.3 * random.standard_normal(size)).astype(np.float16) for size in (slot.channels, slot.inputs))
            yield LowRank(slot.name, left[:, None], right[None])


@pytest.fixture(scope="module", params=REFERENCE)
def template(
    request: pytest.FixtureRequest, base_of: Callable[..., Base], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Base, Path]:
    """A base of each backbone, and its template."""
    base, path = base_of(request.param, items=ITEMS), tmp_path_factory.mktemp("template") / "T"
    write_template(base, path)
    return base, path


@pytest.fixture(scope="module")
def twins(template: tuple[Base, Path]) -> list[Twins]:
    """Every adaptation, through the bytes that a device gets."""
    base, path = template
    made = []
    for adaptation in adaptations(base):
        received = decode_payload(base, encode_payload(base, adaptation, issued=0, expiry=1), allow_unsigned=True).adaptation
        made.append(Twins(numpy_ranker(base, received), open_template(path, own_tensors(base, received))))
    return made


@settings(max_examples=50)
@given(which=st.integers(0, ADAPTATIONS - 1), history=HISTORIES)
def test_a_template_scores_as_the_device_does_for_any_payload_and_history(
    twins: list[Twins], which: int, history: list[int]
) -> None:
    twins[which].agree(history)


@pytest.mark.parametrize("history", [[], [-1, 99], [3], [5] * 9, list(range(30))])
def test_the_odd_histories_too(twins: list[Twins], history: list[int]) -> None:
    for pair in twins:
        pair.agree(history)


def test_opened_without_a_payload_a_template_is_the_base(template: tuple[Base, Path]) -> None:
    base, path = template
    Twins(numpy_ranker(base, Adaptation()), open_template(path, {})).agree([1, 2, 3])


@pytest.mark.parametrize("kind", REFERENCE)
def test_the_reference_sizes_too(kind: str, base_of: Callable[..., Base], tmp_path: Path) -> None:
    base = base_of(kind, items=ITEMS, dim=64, **REFERENCE[kind])
    write_template(base, tmp_path / "T")
    codes = np.random.default_rng(1).integers(0, 4, base.channels).astype(np.uint8)
    for adaptation in (Adaptation(), Adaptation(codes=codes)):
        session = open_template(tmp_path / "T", own_tensors(base, adaptation))
        Twins(numpy_ranker(base, adaptation), session).agree(list(range(ITEMS)))


def test_a_block_that_is_skipped_is_not_in_the_opened_graph(template: tuple[Base, Path], tmp_path: Path) -> None:
    """The price of a gate: nothing. Constants are folded when the graph is opened, and with them the choice."""
    base, path = template

    def opened(gates: np.ndarray) -> bytes:
        own = own_tensors(base, Adaptation(gates=gates))
        open_template(path, own, optimized_model_filepath=str(tmp_path / "opened.onnx"), log_severity_level=3)
        return (tmp_path / "opened.onnx").read_bytes()

    gates = np.ones(len(base.manifest.gates), np.uint8)
    whole, none = opened(gates), opened(0 * gates)
    gates[-1] = 0
    skipped = opened(gates)
    assert b"If" not in operators(whole) | operators(none) | operators(skipped)
    assert len(none) < len(skipped) < len(whole)


def operators(model: bytes) -> set[bytes]:
    import onnx

    return {node.op_type.encode() for node in onnx.ModelProto.FromString(model).graph.node}


def test_whatever_a_device_can_run_can_be_exported() -> None:
    assert set(ENCODERS) == set(BACKBONES)
