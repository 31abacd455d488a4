"""Find what a module holds and does not register: public DUET kept its decoders in plain lists, so they never trained."""

from collections.abc import Iterator

import torch
from torch import nn


def hidden_tensors(module: nn.Module) -> Iterator[str]:
    """Find tensors that a module holds but has not registered: in plain attributes, lists, tuples or dicts."""
    registered = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    seen: set[int] = set()
    pending: list[tuple[str, object]] = [("", module)]
    while pending:
        path, value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor) and id(value) not in registered:
            yield path
        children = vars(value) if hasattr(value, "__dict__") and not isinstance(value, torch.Tensor | type) else {}
        if isinstance(value, dict):
            children = value
        if isinstance(value, list | tuple | set):
            children = dict(enumerate(value))
        pending += [(f"{path}.{name}", child) for name, child in children.items()]
