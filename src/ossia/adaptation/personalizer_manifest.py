"""What lies in `BASE/personalizers/NAME/`, and the document that says so: read by the service, written by training.

    manifest.json            this document: which base, which terms, how it was trained, validation figures, digests
    model.onnx               profiles (users × dim, float32) → importance (users × channels, above 0, mean 1 over a user)
    constant.safetensors     `channels`, `rows`: the mean importance over users, for the control "same for all"
    history.jsonl            one line per epoch of training

A personalizer belongs to one base: its importances speak of that base's channels. It is not part of the base's id.
"""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ossia.adaptation.manifests import FileEntry

MODEL: Final = "model.onnx"
CONSTANT: Final = "constant.safetensors"
HISTORY: Final = "history.jsonl"


class PersonalizerManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json` of a personalizer.

    Attributes:
        method: how importance is computed, such as `chord`.
        base: id of the base that it was trained on, 64 hexadecimal digits.
        profile_dim: length of a profile.
        channels: how many importances it answers with.
        alphabet: widths that a channel may have.
        beta: weight of log popularity in the importance of rows, chosen on validation.
        temperature: what a score is divided by to become a log-probability, fitted on validation.
        recipe: the resolved settings of its training, seeds included.
        data: hash of the dataset that it was trained on.
        versions: of everything that could change the result.
        validation: what was measured on the validation cases, such as `own_log_likelihood`.
        files: every other file of the folder.
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
