"""The checkpoint: one file from which a training goes on as if nothing had happened.

    RUN/checkpoint.safetensors      model.NAME · average.NAME · best.NAME · optimizer.PARAMETER.KEY
                                    and, as JSON in the header, every epoch

It is written whole after each epoch and is the only state of a training: `history.jsonl` and `best.safetensors` follow from
it and are written again when a run is taken up, so that no kill between two files can leave them telling different stories.
Randomness is no state: every step's is a function of the seed, the epoch and the step (`fit.py`).

There is no pickle: tensors are safetensors, everything else JSON. A file that is damaged or not ours is an `ArtifactError`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from ossia.errors import ArtifactError
from ossia.files import write_parts

FORMAT = "ossia-checkpoint-1"
GROUPS = ("model", "average", "best", "optimizer")
KINDS = {torch.float32: "F32", torch.uint8: "U8"}
"""What a training's tensors are, and what safetensors calls it."""


class Epoch(Struct, frozen=True, forbid_unknown_fields=True):
    """What one pass over the data did; a line of `history.jsonl`.

    Attributes:
        index: 0 for the first epoch.
        steps: optimizer steps that it took.
        loss: mean training loss over the epoch's steps, in nats.
        validation_ndcg: NDCG@10 on validation after the epoch; None in a refit, which has nothing to validate with.
        best: no earlier epoch was as good, so its weights were kept; in a refit, every epoch.
        seconds: what it took, validation included.
        training_seconds: the same without validation; None in runs of earlier versions.
    """

    index: int
    steps: int
    loss: float
    validation_ndcg: float | None
    best: bool
    seconds: float
    training_seconds: float | None = None

    def __str__(self) -> str:
        """Say it in a line, for people."""
        if self.validation_ndcg is None:
            return f"epoch {self.index}: loss {self.loss:.3f}, refit"
        mark = " (best)" if self.best else ""
        return f"epoch {self.index}: loss {self.loss:.3f}, validation NDCG@10 {self.validation_ndcg:.4f}{mark}"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training's whole state after an epoch.

    Attributes:
        model: present weights by parameter name.
        average: the running mean of the weights.
        best: the weights of the best epoch so far.
        optimizer: the optimizer's tensors, by `PARAMETER.KEY` with the parameter's number.
        epochs: everything that happened, oldest first.
    """

    model: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    epochs: tuple[Epoch, ...]


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Take an optimizer's state apart into tensors, such as `3.exp_avg`.

    Args:
        optimizer: one whose state is tensors alone, such as Adam.

    Returns:
        the tensors by parameter number and key; settings such as the step size are the recipe's.
    """
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": tensor for number, tensors in state.items() for key, tensor in tensors.items()}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put an optimizer's state together again; its settings stay as they are.

    Args:
        optimizer: a fresh one over the same parameters in the same order.
        tensors: what `optimizer_tensors` gave.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copy a model's weights, so that training on does not change them.

    Args:
        model: the model.

    Returns:
        weights by name, on the model's device.
    """
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in one step: a kill leaves the old one or the new one.

    Args:
        path: the file.
        checkpoint: what to write.
    """
    groups = {group: getattr(checkpoint, group) for group in GROUPS}
    tensors = {f"{group}.{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
    write_parts(path, tensor_parts(tensors, format=FORMAT, epochs=msgspec.json.encode(checkpoint.epochs).decode()))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: the file.

    Returns:
        the checkpoint, on the CPU.

    Raises:
        ArtifactError: the file is missing, damaged, or something else.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ArtifactError(f"{path}: expected {FORMAT}, got {metadata.get('format')!r}")
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
    try:
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        epochs = msgspec.json.decode(metadata["epochs"], type=tuple[Epoch, ...])
    except (KeyError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{path}: expected what training writes, got: {error}") from error
    return Checkpoint(**groups, epochs=epochs)


def tensor_bytes(tensors: Mapping[str, Tensor], **metadata: str) -> bytes:
    """Serialize tensors as safetensors.

    Args:
        tensors: by name, on any device.
        metadata: texts for the file's header.

    Returns:
        a whole file; equal tensors give equal bytes.
    """
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}, metadata)


def tensor_parts(tensors: Mapping[str, Tensor], **metadata: str) -> Iterator[memoryview]:
    """Serialize tensors as `tensor_bytes` does, one after the other: a large table is never held twice.

    Args:
        tensors: by name, on any device; of `KINDS`.
        metadata: texts for the file's header.

    Yields:
        the file, in parts: eight bytes of the header's length, the header, each tensor.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # the widest first, as safetensors does
    begin = 0
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    for name in names:
        tensor = tensors[name]
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, begin + size]}
        begin += size
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for name in names:
        yield tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and the texts in its header.

    Args:
        path: the file.

    Returns:
        tensors by name, on the CPU, and the header's texts.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # not a mapping: it has no iterator
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: expected safetensors, got: {error}") from error
