"""Make the vectors that every port of the device must reproduce: `python tests/vectors/make.py [FOLDER]`.

For each backbone a tiny base (8 wide, 13 items), payloads with every term, histories that try every rule, and what both
arithmetics make of them: SASRec's lie in FOLDER itself, the others' in FOLDER/caser, FOLDER/gru4rec, and three more SASRecs':
FOLDER/valves has valves, FOLDER/tail a table with a coarse tail, FOLDER/basis deltas that are coordinates. Every number comes
out of SHA-256, not out of a library's random generator, so that the same bytes come out on any machine and with any version of
numpy.
"""

import hashlib
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ossia.adaptation import (
    Adaptation,
    Base,
    Basis,
    Coordinates,
    LowRank,
    Weights,
    apply,
    encode_payload,
    make_profile,
    write_base,
)
from ossia.adaptation.tail import Tail
from ossia.device import NUMPY, DeviceRanker, open_session, rerank
from ossia.types import Candidates, Slot

HERE = Path(__file__).parent
NOW, DEVICE = 1_800_000_000, bytes(range(16))
SHAPES = {
    "sasrec": {"items": 13, "dim": 8, "length": 6, "blocks": 2, "heads": 2, "hidden": 16},
    "caser": {"items": 13, "dim": 8, "length": 4, "vertical": 2, "horizontal": 4},
    "gru4rec": {"items": 13, "dim": 8, "length": 6, "layers": 2, "hidden": 12},
    "valves": {"items": 13, "dim": 8, "length": 6, "blocks": 2, "heads": 2, "hidden": 16, "valves": 1},
    "tail": {"items": 13, "dim": 8, "length": 6, "blocks": 2, "heads": 2, "hidden": 16},
    "basis": {"items": 13, "dim": 8, "length": 6, "blocks": 2, "heads": 2, "hidden": 16},
}
TAIL_PARTS = {"tail": 4}
"""Parts of the table's coarse tail, of five words each."""
DIRECTIONS = 3
GATES = {
    "sasrec": ([1, 0, 0, 1], [1, 1, 1, 0]),
    "caser": ([1, 0, 1, 0, 1], [0, 1, 1, 1, 0]),
    "gru4rec": ([0, 1], [1, 1]),
    "valves": ([1, 0, 0, 1], [1, 1, 0, 1]),
    "basis": ([1, 0, 0, 1], [0, 1, 1, 1]),
}
"""What runs in the adaptations `gates` and `all terms`."""
DELTAS = {
    "sasrec": ("blocks.0.value", "blocks.1.output"),
    "caser": ("horizontal.2", "combine"),
    "gru4rec": ("layers.0.hidden", "layers.1.input"),
    "valves": ("blocks.0.up", "blocks.1.feed_forward_valve"),
    "basis": ("blocks.0.query", "blocks.1.expand", "blocks.1.contract"),
}
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
    """Write `base/` and `vectors.json` of every backbone, in place of what was there."""
    for kind in SHAPES:
        write_vectors(folder_of(folder, kind), kind)


def folder_of(folder: Path, kind: str) -> Path:
    """Name the folder of a backbone: the first one's is `folder` itself."""
    return folder if kind == "sasrec" else folder / kind


def write_vectors(folder: Path, kind: str) -> None:
    """Write the base of one backbone, and what comes out of it."""
    shutil.rmtree(folder / "base", ignore_errors=True)
    base = make_base(folder / "base", kind, TAIL_PARTS.get(kind, 0))
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
    }
    if kind == "sasrec":  # a session's rules are the same whatever ranks
        vectors["session"] = session_events(base, adaptations)
    (folder / "vectors.json").write_text(to_json(vectors))


def numbers(name: str, *shape: int) -> np.ndarray:
    """Spread 16 bits of SHA-256(name, counter) for each number evenly over −1 … 1."""
    count = math.prod(shape)
    blocks = b"".join(hashlib.sha256(f"{name} {index}".encode()).digest() for index in range(-(-count // 16)))
    return ((np.frombuffer(blocks, "<u2")[:count] - 32767.5) / 32767.5).astype(np.float32).reshape(shape)


def sasrec_parts(shape: dict[str, int]) -> tuple[list[Slot], list[str], list[str]]:
    """Name SASRec's slots, gates and norms."""
    dim, hidden, valves = shape["dim"], shape["hidden"], "valves" in shape
    looking = ("query", "key", "value", *(["attention_valve"] if valves else []), "output")
    parts = [(part, dim, dim, "attention") for part in looking]
    parts += [(part, hidden, dim, "feed_forward") for part in ("expand", *(["up"] if valves else []))]
    parts += [("feed_forward_valve", dim, dim, "feed_forward")] if valves else []
    parts += [("contract", dim, hidden, "feed_forward")]
    blocks = [f"blocks.{index}" for index in range(shape["blocks"])]
    slots = [
        Slot(f"{block}.{part}", channels, inputs, f"{block}.{gate}")
        for block in blocks
        for part, channels, inputs, gate in parts
    ]
    gates = [f"{block}.{gate}" for block in blocks for gate in ("attention", "feed_forward")]
    return slots, gates, ["norm", *(f"{gate}_norm" for gate in gates)]


def caser_parts(shape: dict[str, int]) -> tuple[list[Slot], list[str], list[str]]:
    """Name Caser's slots, gates and norms."""
    dim, length, vertical, horizontal = (shape[name] for name in ("dim", "length", "vertical", "horizontal"))
    slots = [Slot("vertical", vertical, length, "vertical")]
    slots += [Slot(f"horizontal.{k}", horizontal, k * dim, f"horizontal.{k}") for k in range(1, length + 1)]
    return [*slots, Slot("combine", dim, vertical * dim + horizontal * length)], [slot.name for slot in slots], ["norm"]


def gru4rec_parts(shape: dict[str, int]) -> tuple[list[Slot], list[str], list[str]]:
    """Name GRU4Rec's slots, gates and norms."""
    dim, hidden = shape["dim"], shape["hidden"]
    parts = [("input", 3 * hidden, dim), ("hidden", 3 * hidden, hidden), ("output", dim, hidden)]
    layers = [f"layers.{index}" for index in range(shape["layers"])]
    slots = [Slot(f"{layer}.{part}", channels, inputs, layer) for layer in layers for part, channels, inputs in parts]
    return slots, layers, ["norm", *(f"{layer}.norm" for layer in layers)]


SASRECS = dict.fromkeys(("sasrec", "valves", "tail", "basis"), sasrec_parts)
PARTS = {**SASRECS, "caser": caser_parts, "gru4rec": gru4rec_parts}


def make_base(path: Path, kind: str, tail: int = 0) -> Base:
    """Publish a tiny backbone; `tail`: the parts of a coarse tail of five words each."""
    shape = SHAPES[kind]
    slots, gates, norms = PARTS[kind](shape)
    dim = shape["dim"]
    weights = {"positions.weight": numbers("positions", shape["length"], dim)} if PARTS[kind] is sasrec_parts else {}
    for slot in slots:
        weights[f"{slot.name}.weight"] = numbers(slot.name, slot.channels, slot.inputs) * np.float32(math.sqrt(3 / slot.inputs))
        weights[f"{slot.name}.bias"] = numbers(f"{slot.name} bias", slot.channels) * np.float32(0.25)
    for norm in norms:
        weights[f"{norm}.weight"] = 1 + numbers(f"{norm} weight", dim) * np.float32(0.25)
        weights[f"{norm}.bias"] = numbers(f"{norm} bias", dim) * np.float32(0.25)
    return write_base(
        path,
        backbone="sasrec" if PARTS[kind] is sasrec_parts else kind,
        shape=shape,
        slots=slots,
        gates=gates,
        weights=weights,
        profile_clip=1.5,
        item_vectors=numbers("items", shape["items"], dim),
        item_ids=[f"item-{row}" for row in range(shape["items"])],
        item_counts=np.array([13, 12, 14, 10, 9, 8, 7, 7, 5, 4, 3, 2, 1], np.float32),  # row 2 leads; 6 and 7 tie
        tail=_tail(shape["items"], dim, tail) if tail else None,
        basis={slot.name: _basis(slot) for slot in slots} if kind == "basis" else None,
    )


def _basis(slot: Slot) -> Basis:
    """Draw a slot's directions."""
    left, right = (
        numbers(f"{slot.name} left", slot.channels, DIRECTIONS),
        numbers(f"{slot.name} right", DIRECTIONS, slot.inputs),
    )
    return Basis((0.5 * left).astype(np.float16), (0.5 * right).astype(np.float16))


def _tail(rows: int, dim: int, parts: int) -> Tail:
    """Draw a coarse tail; the last row has the codes of another one: a tie, where neither is held."""
    words, rotation = numbers("words", parts, 5, dim // parts), numbers("rotation", dim, dim)
    codes = (np.arange(rows * parts) % 5).astype(np.uint8).reshape(rows, parts)
    codes[-1] = codes[-3]
    return Tail(codes, words.astype(np.float16), rotation.astype(np.float16))


def make_adaptations(base: Base) -> dict[str, Adaptation]:
    """Draw each term by itself, then all together."""
    kind = "valves" if "valves" in base.manifest.shape else "basis" if base.basis else base.manifest.backbone
    sizes = {slot.name: (slot.channels, slot.inputs) for slot in base.manifest.slots}
    codes, rows = _codes("codes", base.channels), _codes("rows", len(base.table))
    deltas = tuple(_coordinates(name) if base.basis else _low_rank(name, *sizes[name]) for name in DELTAS[kind])
    gates, most = (np.array(runs, np.uint8) for runs in GATES[kind])
    return {
        "base": Adaptation(),
        "codes": Adaptation(codes=codes),
        "rows": Adaptation(rows=rows),
        "gates": Adaptation(gates=gates),
        "all gates off": Adaptation(gates=np.zeros(len(gates), np.uint8)),
        "all terms": Adaptation(most, codes, deltas, rows),
    }


def _low_rank(name: str, channels: int, inputs: int) -> LowRank:
    """Draw a delta of rank 2."""
    left, right = numbers(f"{name} left", channels, 2), numbers(f"{name} right", 2, inputs)
    return LowRank(name, left.astype(np.float16), right.astype(np.float16))


def _coordinates(name: str) -> Coordinates:
    """Draw a delta in the base's basis."""
    return Coordinates(name, (4 * numbers(f"{name} coordinates", DIRECTIONS)).astype(np.float16))


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
    vectors, items = numbers("vectors", 4, base.manifest.shape["dim"]), np.array([3, 8, 0, -1], np.int32)
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
