"""A checkpoint gives back what went in, to the last bit, or says what is wrong with the file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ossia.errors import ArtifactError
from ossia.training.checkpoint import (
    Checkpoint,
    Epoch,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    snapshot,
    tensor_bytes,
    tensor_parts,
)

EPOCHS = (Epoch(0, 4, 6.5, 0.01, True, 1.5), Epoch(1, 4, 6.25, 1 / 3, False, 0.1))


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    advance(model, optimizer, steps)
    return model, optimizer


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> Checkpoint:
    return Checkpoint(
        snapshot(model), {"weight": torch.zeros(2)}, {"weight": torch.ones(2)}, optimizer_tensors(optimizer), EPOCHS
    )


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    before = state(*trained(3))
    save_checkpoint(tmp_path / "c", before)
    after = load_checkpoint(tmp_path / "c")
    assert after.epochs == EPOCHS
    for group in ("model", "average", "best", "optimizer"):
        one, other = getattr(before, group), getattr(after, group)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_file_written_in_parts_is_the_file_that_safetensors_writes() -> None:
    tensors = {"b.x": torch.randn(3, 2), "a": torch.randn(2, 5).T, "scalar": torch.tensor(2.0), "none": torch.empty(0, 4)}
    tensors |= {"a.codes": torch.arange(6, dtype=torch.uint8).view(3, 2)}  # narrower ones come behind
    parts = list(tensor_parts(tensors, epochs="[é]"))
    assert b"".join(parts) == tensor_bytes(tensors, epochs="[é]")
    assert len(parts) == 1 + len(tensors)


def test_an_optimizer_goes_on_from_a_checkpoint_to_the_last_bit(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    save_checkpoint(tmp_path / "c", state(model, optimizer))
    advance(model, optimizer, 4)

    again, fresh = trained(0)
    checkpoint = load_checkpoint(tmp_path / "c")
    again.load_state_dict(checkpoint.model)
    restore_optimizer(fresh, checkpoint.optimizer)
    advance(again, fresh, 4)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_without_the_optimizers_state_it_would_not(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    again, fresh = trained(0)
    again.load_state_dict(snapshot(model))
    advance(model, optimizer, 4)
    advance(again, fresh, 4)
    assert not torch.equal(model.weight, again.weight)  # type: ignore[arg-type]


def test_a_snapshot_does_not_move_with_the_model() -> None:
    model, optimizer = trained(1)
    before = snapshot(model)
    advance(model, optimizer, 1)
    assert not torch.equal(before["weight"], model.state_dict()["weight"])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(ArtifactError, match=r"checkpoint\.safetensors"):
        load_checkpoint(path)
    save_checkpoint(path, state(*trained(1)))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match=r"checkpoint\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("model.weight", None),
        ("model.weight", {"format": "ossia-checkpoint-9", "epochs": "[]"}),
        ("other.weight", {"format": "ossia-checkpoint-1", "epochs": "[]"}),
        ("model.weight", {"format": "ossia-checkpoint-1", "epochs": "[{}]"}),
        ("model.weight", {"format": "ossia-checkpoint-1"}),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str, metadata: dict[str, str] | None) -> None:
    save_file({name: torch.ones(1)}, tmp_path / "c", metadata)
    with pytest.raises(ArtifactError, match="expected"):
        load_checkpoint(tmp_path / "c")
