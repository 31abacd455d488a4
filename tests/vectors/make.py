"""Make the vectors that every port of the device must reproduce: `python tests/vectors/make.py [FOLDER]`.

A tiny base (8 wide, 2 blocks, reads 6 events, 13 items), payloads with every term, histories that try every rule, and what
both arithmetics make of them. Every number comes out of SHA-256, not out of a library's random generator, so that the same
bytes come out on any machine and with any version of numpy.
"""

import hashlib
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ossia.adaptation import Adaptation, Base, LowRank, Weights, apply, encode_payload, make_profile, write_base
from ossia.device import NUMPY, DeviceRanker, open_session, rerank
from ossia.types import Candidates, Slot

HERE = Path(__file__).parent
NOW, DEVICE = 1_800_000_000, bytes(range(16))
SHAPE = {"items": 13, "dim": 8, "length": 6, "blocks": 2, "heads": 2, "hidden": 16}
HISTORIES: dict[str, list[int]] = {
    "full": [4, 0, 11, 7, 2, 9],
    "one event": [5],
    "repeats": [6, 6, 1, 6, 1],
    "longer than the model reads": [9, 9, 1, 4, 0, 11, 7, 2, 10],
    "unknown items within": [-1, 4, 13, 0, -1, 2147483647, 11],
    "empty": [],
    "nothing known": [-1, 13],
}
CANDIDATES = [*range(12, -1, -1), -1, 5, 13]  # 5 stands twice: a tie; −1 and 13 have no row


def main(folder: Path) -> None:
    """Write `base/` and `vectors.json` into `folder`, in place of what was there."""
    shutil.rmtree(folder / "base", ignore_errors=True)
    base = make_base(folder / "base")
    adaptations = make_adaptations(base)
    vectors = {
        "base_id": base.id.hex(),
        "table_id": base.table.id.hex(),
        "device_id": DEVICE.hex(),
        "histories": HISTORIES,
        "candidates": CANDIDATES,
        "adaptations": {name: describe(base, adaptation) for name, adaptation in adaptations.items()},
        "cases": [
            {"adaptation": name, "history": said, **outcome(base, adaptation, np.array(history, np.int32))}
            for name, adaptation in adaptations.items()
            for said, history in HISTORIES.items()
        ],
        "profiles": {said: profile(base, np.array(history, np.int32)) for said, history in HISTORIES.items()},
        "vectors": with_vectors(base, adaptations["all terms"]),
        "session": session_events(base, adaptations),
    }
    (folder / "vectors.json").write_text(to_json(vectors))


def numbers(name: str, *shape: int) -> np.ndarray:
    """Spread 16 bits of SHA-256(name, counter) for each number evenly over −1 … 1."""
    count = math.prod(shape)
    blocks = b"".join(hashlib.sha256(f"{name} {index}".encode()).digest() for index in range(-(-count // 16)))
    return ((np.frombuffer(blocks, "<u2")[:count] - 32767.5) / 32767.5).astype(np.float32).reshape(shape)


def make_base(path: Path) -> Base:
    """Publish the tiny SASRec."""
    dim, hidden = SHAPE["dim"], SHAPE["hidden"]
    parts = [(part, dim, dim, "attention") for part in ("query", "key", "value", "output")]
    parts += [("expand", hidden, dim, "feed_forward"), ("contract", dim, hidden, "feed_forward")]
    blocks = [f"blocks.{index}" for index in range(SHAPE["blocks"])]
    slots = [
        Slot(f"{block}.{part}", channels, inputs, f"{block}.{gate}")
        for block in blocks
        for part, channels, inputs, gate in parts
    ]
    gates = [f"{block}.{gate}" for block in blocks for gate in ("attention", "feed_forward")]
    weights = {"positions.weight": numbers("positions", SHAPE["length"], dim)}
    for slot in slots:
        weights[f"{slot.name}.weight"] = numbers(slot.name, slot.channels, slot.inputs) * np.float32(math.sqrt(3 / slot.inputs))
        weights[f"{slot.name}.bias"] = numbers(f"{slot.name} bias", slot.channels) * np.float32(0.25)
    for norm in ("norm", *(f"{gate}_norm" for gate in gates)):
        weights[f"{norm}.weight"] = 1 + numbers(f"{norm} weight", dim) * np.float32(0.25)
        weights[f"{norm}.bias"] = numbers(f"{norm} bias", dim) * np.float32(0.25)
    return write_base(
        path,
        backbone="sasrec",
        shape=SHAPE,
        slots=slots,
        gates=gates,
        weights=weights,
        profile_clip=1.5,
        item_vectors=numbers("items", SHAPE["items"], dim),
        item_ids=[f"item-{row}" for row in range(SHAPE["items"])],
        item_counts=np.array([13, 12, 14, 10, 9, 8, 7, 7, 5, 4, 3, 2, 1], np.float32),  # row 2 leads; 6 and 7 tie
    )


def make_adaptations(base: Base) -> dict[str, Adaptation]:
    """Draw each term by itself, then all together."""
    codes, rows = _codes("codes", base.channels), _codes("rows", len(base.table))
    deltas = tuple(
        LowRank(name, numbers(f"{name} left", 8, 2).astype(np.float16), numbers(f"{name} right", 2, 8).astype(np.float16))
        for name in ("blocks.0.value", "blocks.1.output")
    )
    gates = np.array([1, 0, 0, 1], np.uint8)
    return {
        "base": Adaptation(),
        "codes": Adaptation(codes=codes),
        "rows": Adaptation(rows=rows),
        "gates": Adaptation(gates=gates),
        "all gates off": Adaptation(gates=np.zeros(4, np.uint8)),
        "all terms": Adaptation(np.array([1, 1, 1, 0], np.uint8), codes, deltas, rows),
    }


def describe(base: Base, adaptation: Adaptation) -> dict[str, Any]:
    """Give an adaptation as bytes and as numbers, and a digest of what it folds into."""
    terms = {"gates": adaptation.gates, "codes": adaptation.codes, "rows": adaptation.rows}
    return {
        "payload": payload(base, adaptation).hex(),
        **{name: None if term is None else term.tolist() for name, term in terms.items()},
        "folded_sha256": folded_digest(apply(base, adaptation)),
    }


def folded_digest(weights: Weights) -> str:
    """Hash the folded panels: each slot in wire order, then the rows; int8 values, then the float32 scales."""
    digest = hashlib.sha256()
    for panel in (*weights.slots.values(), weights.rows):
        digest.update(panel.values.tobytes() + panel.scale.astype("<f4").tobytes())
    return digest.hexdigest()


def outcome(base: Base, adaptation: Adaptation, history: np.ndarray) -> dict[str, Any]:
    """Give states, scores and rankings of one history under one adaptation, in both arithmetics."""
    rankers = {name: runtime(base, adaptation) for name, runtime in NUMPY.items()}
    return {name: judge(ranker, history, Candidates(np.array(CANDIDATES, np.int32))) for name, ranker in rankers.items()}


def judge(ranker: DeviceRanker, history: np.ndarray, candidates: Candidates) -> dict[str, Any]:
    """Give one ranker's state, scores, and ranking as places in the list of candidates."""
    scores = ranker.scores(history, candidates)
    _assert_apart(scores)
    return {
        "state": ranker.state(history),
        "scores": scores,
        "ranking": rerank(ranker, history, candidates).positions.tolist(),
    }


def profile(base: Base, history: np.ndarray) -> dict[str, Any]:
    """Give what would go up for a history."""
    up = make_profile(NUMPY["numpy"](base, Adaptation()).state(history), base.manifest.profile_clip)
    return {"values": up.values.tolist(), "scale": float(str(up.scale))}


def with_vectors(base: Base, adaptation: Adaptation) -> dict[str, Any]:
    """Give a case whose candidates bring their own vectors; the third is not finite, the last has no row."""
    vectors, items = numbers("vectors", 4, SHAPE["dim"]), np.array([3, 8, 0, -1], np.int32)
    vectors[2, 1] = np.inf
    history, candidates = np.array(HISTORIES["full"], np.int32), Candidates(items, vectors)
    judged = {name: judge(runtime(base, adaptation), history, candidates) for name, runtime in NUMPY.items()}
    return {"adaptation": "all terms", "history": "full", "items": items.tolist(), "candidate_vectors": vectors, **judged}


def session_events(base: Base, adaptations: dict[str, Adaptation]) -> list[dict[str, Any]]:
    """Let a session that accepts unsigned payloads receive good and bad ones, in this order."""
    first, second = adaptations["codes"], adaptations["all terms"]
    good = payload(base, first)
    arrivals = [
        ("cut short", good[:-1], NOW),
        ("another base", good[:12] + bytes(16) + good[28:], NOW),
        ("another table", good[:28] + bytes(16) + good[44:], NOW),
        ("another device", payload(base, first, device_id=DEVICE[::-1]), NOW),
        ("from the future", good, NOW - 311),
        ("just within the tolerance", good, NOW - 310),
        ("the same again", good, NOW),
        ("a wrong digest", payload(base, second, sequence=9)[:-1] + b"\0", NOW),
        ("already expired", payload(base, second, sequence=9), NOW + 86_400),
        ("newer, and the last second", payload(base, second, sequence=9), NOW + 86_399),
        ("late", payload(base, first, sequence=8), NOW),
    ]
    session, events = open_session(base, DEVICE, runtime="numpy", allow_unsigned=True), []
    for name, data, now in arrivals:
        session, receipt = session.receive(data, now)
        refused_by = receipt.reason.partition(":")[0]
        events.append({"name": name, "now": now, "payload": data.hex(), "accepted": receipt.accepted, "refused_by": refused_by})
    return events


def payload(base: Base, adaptation: Adaptation, **header: Any) -> bytes:
    """Write an unsigned payload for the device of these vectors."""
    return encode_payload(
        base, adaptation, **{"device_id": DEVICE, "sequence": 7, "issued": NOW - 10, "expiry": NOW + 86_400} | header
    )


def to_json(vectors: dict[str, Any]) -> str:
    """Write one line per entry of each list or table, so that a changed vector is a changed line."""
    lines = []
    for key, value in vectors.items():
        whole = json.dumps(value, default=_plain)
        if isinstance(value, dict) and key != "vectors":
            whole = (
                "{\n"
                + ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry, default=_plain)}" for name, entry in value.items())
                + "}"
            )
        if key in ("cases", "session"):
            whole = "[\n" + ",\n".join(f"  {json.dumps(entry, default=_plain)}" for entry in value) + "]"
        lines.append(f"{json.dumps(key)}: {whole}")
    return "{" + ",\n".join(lines) + "}\n"


def _plain(array: np.ndarray) -> list[Any]:
    """Give float32 numbers in the fewest digits that tell them apart; null for −inf and inf."""
    if array.ndim > 1:
        return [_plain(row) for row in array]
    return [float(str(number)) if np.isfinite(number) else None for number in array]


def _codes(name: str, count: int) -> np.ndarray:
    """Draw codes 0 … 3."""
    return np.frombuffer(numbers(name, count).tobytes(), np.uint8)[::4] & 3


def _assert_apart(scores: np.ndarray) -> None:
    """See to it that no port's last digits can turn a ranking over."""
    finite = np.unique(scores[np.isfinite(scores)])
    assert len(finite) < 2 or np.diff(finite).min() > 2e-5 * np.abs(finite).max(), "scores too close to call: change a name"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
