"""The C engine against its reference, `numpy_int8`: bytes and integer sums to the bit, floats within a bound.

A norm or a softmax in float32 now and then rounds an activation to the other side of a half, and then a state moves visibly:
so most states must agree to 1e-5 of the largest value, and every one to 2e-2.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from ossia.adaptation import Adaptation, Base, Coordinates, Dense, LowRank, apply, decode_payload, encode_payload
from ossia.device import NUMPY, DeviceRanker, open_session, rerank
from ossia.device import engine as native
from ossia.device.linear import INTEGER
from ossia.device.ranking import top_k
from ossia.errors import ArtifactError, PayloadError, UsageError
from ossia.quantization.grid import Panel
from ossia.types import Candidates

SHAPES = {
    "reference": ("sasrec", {"items": 300, "dim": 64, "length": 50, "hidden": 256}),
    "odd": ("sasrec", {"items": 77, "dim": 20, "length": 9, "heads": 4, "hidden": 37, "blocks": 3}),
    "wide": ("sasrec", {"items": 90, "dim": 192, "length": 33, "heads": 3, "hidden": 100, "blocks": 1}),
    "recurrent": ("gru4rec", {"items": 200, "dim": 64, "length": 50, "layers": 1, "hidden": 128}),
    "recurrent, odd": ("gru4rec", {"items": 77, "dim": 20, "length": 9, "layers": 3, "hidden": 37}),
    "valves": ("sasrec with valves", {"items": 300, "dim": 64, "length": 50, "hidden": 64}),
    "valves, odd": ("sasrec with valves", {"items": 77, "dim": 20, "length": 9, "heads": 4, "hidden": 37, "blocks": 3}),
    "convolutional": ("caser", {"items": 200, "dim": 64, "length": 5, "vertical": 4, "horizontal": 16}),
    "basis, odd": ("sasrec with a basis", {"items": 77, "dim": 20, "length": 9, "heads": 4, "hidden": 37, "blocks": 3}),
    "convolutional, odd": ("caser", {"items": 77, "dim": 20, "length": 29, "vertical": 3, "horizontal": 7}),
}
KINDS = ("sasrec", "sasrec with valves", "gru4rec", "caser", "sasrec with a basis")
PATHS = ("plain", "avx2", "vnni", "neon", "dotprod", "i8mm")

pytestmark = pytest.mark.skipif(native.library() is None, reason="the engine is not built, so numpy does the work")


def test_where_there_is_an_engine_it_is_the_default(small: Base) -> None:
    assert isinstance(open_session(small).plain.ranker, native.EngineRanker)


@pytest.fixture(scope="module", params=sorted(SHAPES))
def shaped(request: pytest.FixtureRequest, base_of) -> Base:
    kind, sizes = SHAPES[request.param]
    return base_of(kind, **sizes)


@pytest.fixture(scope="module", params=KINDS)
def small(request: pytest.FixtureRequest, base_of) -> Base:
    return base_of(request.param)


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.path()
    try:
        yield native.path(request.param)
    except UsageError:
        pytest.skip(f"this build or processor has no {request.param}")
    finally:
        native.path(before)


def draw(base: Base, seed: int) -> Adaptation:
    """Draw every term there is, of every width; 0 stands for the base itself."""
    random = np.random.default_rng(seed)
    if not seed:
        return Adaptation()
    slots = base.manifest.slots
    picked = sorted(random.choice(len(slots), 2, replace=False))

    def half(*shape: int) -> np.ndarray:
        return (0.1 * random.standard_normal(shape)).astype(np.float16)

    if base.basis:
        deltas = tuple(Coordinates(slots[i].name, 10 * half(5)) for i in picked)
    elif seed % 2:
        deltas = tuple(Dense(slots[i].name, half(slots[i].channels, slots[i].inputs)) for i in picked)
    else:
        rank = 11 if seed == 6 else 3  # the engine keeps eight right factors at hand, and reads the others anew
        deltas = tuple(LowRank(slots[i].name, half(slots[i].channels, rank), half(rank, slots[i].inputs)) for i in picked)
    gates, codes, rows = (
        random.integers(0, end, size).astype(np.uint8)
        for size, end in ((len(base.manifest.gates), 2), (base.channels, 4), (len(base.table), 4))
    )
    return Adaptation(gates if seed % 3 else None, codes, deltas if seed % 4 else (), rows if seed % 5 else None)


def histories(base: Base, seed: int) -> Iterator[np.ndarray]:
    """One event, odd lengths, full, over-long, with unknown items, empty."""
    random, length = np.random.default_rng(seed), base.manifest.shape["length"]
    for events in (1, 2, 3, 7, length - 1, length, 3 * length):
        yield random.integers(-2, len(base.table) + 2, events)
    yield np.zeros(0, np.int64)


@pytest.mark.parametrize("seed", range(8))
def test_an_adaptation_folds_to_the_bit(shaped: Base, seed: int) -> None:
    adaptation = draw(shaped, seed)
    payload = encode_payload(shaped, adaptation, issued=0, expiry=0)
    ranker, folded = native.fold_payload(native.open_model(shaped), payload, whole=True), apply(shaped, adaptation)
    for name, panel in folded.slots.items():
        got = ranker.slot(list(folded.slots).index(name))
        assert np.array_equal(got.values, panel.values), name
        assert np.array_equal(got.scale, panel.scale), name
    rows = ranker.rows()
    assert np.array_equal(rows.values, folded.rows.values)
    assert np.array_equal(rows.scale, folded.rows.scale)


@pytest.mark.parametrize("seed", range(6))
def test_states_agree_and_scores_are_exact_for_a_state(shaped: Base, path: str, seed: int) -> None:
    adaptation, everything = draw(shaped, seed), np.arange(-1, len(shaped.table) + 1)
    ours, reference = native.engine_ranker(shaped, adaptation), NUMPY["numpy_int8"](shaped, adaptation)
    weights, far = reference.weights, []
    for history in histories(shaped, seed):
        state, expected = ours.state(history), reference.state(history)
        far.append(np.abs(state - expected).max() / max(np.abs(expected).max(), 1e-9))
        scores = ours.scores(history, Candidates(everything))
        assert np.array_equal(np.isfinite(scores), np.isfinite(reference.scores(history, Candidates(everything))))
        usable = history[(history >= 0) & (history < len(weights.held))][-weights.shape["length"] :]
        if len(usable):
            values, scale = weights.rows.values.copy(), weights.rows.scale.copy()
            values[usable], scale[usable] = weights.history_rows.values[usable], weights.history_rows.scale[usable]
            exact = INTEGER.match(state, Panel(values, scale))
            held = np.isfinite(scores[1:-1])
            assert np.array_equal(scores[1:-1][held], exact[held])
        positions, best = ours.top(history, everything, 12)
        assert positions.tolist() == top_k(scores, 12).tolist()
        assert np.array_equal(best, scores[positions])
    assert np.quantile(far, 0.75) < 1e-5
    assert max(far) < 2e-2


def test_rows_at_every_mixture_of_widths_score_to_the_bit(make_base, path: str) -> None:
    base = make_base(items=200, dim=128, heads=2, blocks=1, length=5, hidden=16)
    rows = np.repeat(np.array([3, 2, 1, 0, 2, 3], np.uint8), [40, 40, 40, 13, 27, 40])
    ours, history = native.engine_ranker(base, Adaptation(rows=rows)), np.array([0])
    folded = apply(base, Adaptation(rows=rows)).rows
    exact = INTEGER.match(ours.state(history), folded)[1:]
    scores = ours.scores(history, Candidates(np.arange(1, 200)))
    assert np.array_equal(scores, np.where(rows[1:] > 0, exact, -np.inf))
    held, _ = ours.top(history, None, 200)
    assert len(held) == (rows > 0).sum()
    assert 0 not in ours.top(history, None, 200, unseen=True)[0]


@pytest.mark.parametrize("left", ["no block", "no row", "no channel"])
def test_nothing_left_is_still_a_ranking(small: Base, left: str) -> None:
    gates, rows, codes = (np.zeros(count, np.uint8) for count in (len(small.manifest.gates), 40, small.channels))
    adaptation = {"no block": Adaptation(gates=gates), "no row": Adaptation(rows=rows), "no channel": Adaptation(codes=codes)}
    ours, reference = native.engine_ranker(small, adaptation[left]), NUMPY["numpy_int8"](small, adaptation[left])
    for history in ([3, 1], [7], [], [-1], [39, 40, 41]):
        seen = np.array(history, np.int64)
        expected = reference.state(seen)
        assert np.allclose(ours.state(seen), expected, rtol=0, atol=1e-5 * np.abs(expected).max(initial=1e-9))
        for items in (np.arange(40), np.zeros(0, np.int64)):
            told = rerank(reference, seen, Candidates(items), 5)
            assert rerank(ours, seen, Candidates(items), 5).items.tolist() == told.items.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_one_gate_at_a_time_skips_the_same_branch(small: Base, seed: int) -> None:
    history = np.random.default_rng(seed).integers(0, 40, 7)
    for gate in range(len(small.manifest.gates)):
        gates = np.ones(len(small.manifest.gates), np.uint8)
        gates[gate] = 0
        ours, expected = (
            NUMPY["numpy_int8"](small, Adaptation(gates=gates)).state(history),
            native.engine_ranker(small, Adaptation(gates=gates)).state(history),
        )
        assert np.allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max()), small.manifest.gates[gate]


def test_a_size_beyond_the_engine_is_numpys(base_of) -> None:
    beyond = base_of("caser", length=64, vertical=1, horizontal=1)
    assert not native.runs(beyond)
    assert isinstance(open_session(beyond).plain.ranker, DeviceRanker)
    with pytest.raises(ArtifactError, match="unsupported"):
        native.engine_ranker(beyond, Adaptation())


def test_a_damaged_payload_is_refused_by_both_with_the_same_word(small: Base) -> None:
    random, model = np.random.default_rng(1), native.open_model(small)
    good, refused = encode_payload(small, draw(small, 2), issued=5, expiry=9), 0
    for _ in range(400):
        data = bytearray(good)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        if random.random() < 0.2:
            del data[random.integers(len(data)) :]
        ours = refusal(native.fold_payload, model, bytes(data))
        reference = refusal(partial(decode_payload, allow_unsigned=True), small, bytes(data))
        assert ours == reference or (reference == "bits" and ours in ("gates", "delta"))
        refused += ours != ""
    assert 100 < refused < 400  # neither always the same answer, nor always the door


def refusal(read: Callable[..., object], at_hand: object, data: bytes) -> str:
    """Give the field that a reader refuses a payload by; nothing if it accepts it."""
    try:
        read(at_hand, data)
    except PayloadError as error:
        return str(error).partition(":")[0].split()[0]
    return ""
