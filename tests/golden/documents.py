"""Reads the golden vectors out of the normative documents, so that page and code can't drift apart."""

import json
import re
from pathlib import Path

import numpy as np

from ossia.adaptation import Adaptation, Base, Basis, ItemTable, LowRank
from ossia.adaptation.manifests import BaseManifest
from ossia.quantization.grid import Grid
from ossia.types import Slot

DOCS = Path(__file__).parents[2] / "docs"


def block(document: str, name: str) -> str:
    """Return the text of one fenced block: ```golden NAME."""
    found = re.findall(rf"^```golden {name}\n(.*?)^```", (DOCS / document).read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{document}: expected one block golden {name}, found {len(found)}"
    return found[0]


def fields(text: str) -> dict[str, str]:
    """Split lines of `name value value …`."""
    return dict(line.split(maxsplit=1) for line in text.splitlines())


def toy_base() -> Base:
    """Build the toy base of payload-format.md as a value; its ids are made up."""
    toy = json.loads(block("payload-format.md", "base"))
    slots = tuple(Slot(*slot) for slot in toy["slots"])
    shape = {"items": len(toy["rows"]), "dim": len(toy["rows"][0]), "length": 4}
    manifest = BaseManifest("toy", shape, slots, tuple(toy["gates"]), 1.0, toy["table"] * 2, {}, basis=2)
    count = len(toy["rows"])
    grid = Grid(np.array(toy["rows"]).astype(np.int8), np.array(toy["scales"], np.float32))
    order, counts = np.arange(count, dtype=np.int32), np.ones(count, np.float32)
    table = ItemTable(bytes.fromhex(toy["table"] * 2), tuple(map(str, range(count))), None, order, counts, grid, {})
    grids = {
        slot.name: Grid(np.ones((slot.channels, slot.inputs), np.int8), np.ones((3, slot.channels), np.float32))
        for slot in slots
    }
    basis = {name: Basis(*(np.array(side, np.float16) for side in sides)) for name, sides in toy["basis"].items()}
    return Base(bytes.fromhex(toy["id"] * 2), manifest, grids, {}, table, Path("toy"), basis)


def toy_adaptation() -> tuple[Adaptation, dict[str, bytes | int]]:
    """Build the adaptation that payload-format.md spells, and the numbers of its header."""
    toy = json.loads(block("payload-format.md", "adaptation"))
    delta = LowRank(toy["delta"]["slot"], *(np.array(toy["delta"][side], np.float16) for side in ("left", "right")))
    arrays = {name: np.array(toy[name], np.uint8) for name in ("gates", "codes", "rows")}
    header = {"device_id": bytes.fromhex(toy["device"]), **{name: toy[name] for name in ("sequence", "issued", "expiry")}}
    return Adaptation(deltas=(delta,), **arrays), header


def golden_payload(name: str = "payload") -> bytes:
    """Return the bytes that payload-format.md prints: a whole payload, or the body of one."""
    return b"".join(bytes.fromhex(line.split()[-1]) for line in block("payload-format.md", name).splitlines())
