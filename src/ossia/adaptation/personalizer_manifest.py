"""What lies in `BASE/personalizers/NAME/`, and the document that says so: read by the service, written by training.

    manifest.json            this document: which base, which terms, how it was trained, validation figures, digests
    model.onnx               profiles (users × dim, float32) → importance (users × channels, above 0, mean 1 over a user)
    constant.safetensors     `channels`, `rows`: the mean importance over users, for the control "same for all"
    history.jsonl            one line per epoch of training

One that generates weights (`generated` says which) has instead

    model.onnx               profiles, and `kept` (users × gates, 0 or 1) where blocks are chosen → numbers (users × numbers)
    controller.onnx          where blocks are chosen: profiles, `share` (users × 1) of the blocks' cost that the device can
                             afford → log_odds (users × gates) of keeping each block
    constant.safetensors     `profile`: the mean profile over users

A personalizer belongs to one base: it speaks of that base's channels, slots and gates. It is not part of the base's id.
"""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ossia.adaptation.manifests import FileEntry

MODEL: Final = "model.onnx"
CONTROLLER: Final = "controller.onnx"
CONSTANT: Final = "constant.safetensors"
HISTORY: Final = "history.jsonl"


class Generated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a personalizer generates; how its numbers are laid out is `delta_layout`.

    Attributes:
        slots: names of those that have a delta, in wire order.
        rank: of every delta; 0: dense.
        gates: whether it also chooses which blocks run.
        coordinates: whether a delta is so many coordinates in the base's basis.
    """

    slots: tuple[str, ...]
    rank: int
    gates: bool
    coordinates: bool = False


class PersonalizerManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json` of a personalizer.

    Attributes:
        method: how answers are computed, such as `chord`.
        base: id of the base that it was trained on, 64 hexadecimal digits.
        profile_dim: length of a profile.
        channels: how many channels the base has.
        alphabet: widths that a channel may have; none where widths are not chosen.
        beta: weight of log popularity in the importance of rows, chosen on validation.
        temperature: what a score is divided by to become a log-probability, fitted on validation.
        recipe: the resolved settings of its training, seeds included.
        data: hash of the dataset that it was trained on.
        versions: of everything that could change the result.
        validation: what was measured on the validation cases, such as `own_log_likelihood`.
        files: every other file of the folder.
        generated: what it generates; None: importance of channels.
    """

    method: str
    base: str
    profile_dim: int
    channels: int
    alphabet: tuple[int, ...]
    beta: float
    temperature: float
    recipe: dict[str, Any]
    data: str
    versions: dict[str, str]
    validation: dict[str, float]
    files: dict[str, FileEntry]
    generated: Generated | None = None
    kind: Literal["ossia-personalizer"] = "ossia-personalizer"
    version: Literal[1] = 1


def personalizer_folder(base: Path, name: str) -> Path:
    """Return where a personalizer of a base lies.

    Args:
        base: the base's folder.
        name: the personalizer's name.

    Returns:
        `BASE/personalizers/NAME`.
    """
    return base / "personalizers" / name
