"""A backbone as a `Ranker`: what training, evaluation and studies ask for scores, in float32 torch.

    state = forward(newest `length` known events)[newest]        score_i = state · E[i]

Items that the table does not know (`ABSENT`) are skipped in a history before it is cropped, so they take no position. A
history without any known item has the zero state: torch holds no popularity order, so all its scores are 0 and all ties
count against it. A device ranks such a user by popularity instead (`ossia.device`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from ossia.backbones.backbone import Backbone
from ossia.types import ABSENT, Candidates, History

AnyHistory: TypeAlias = Int[np.ndarray, "_"]
"""A `History` among others: each has a length of its own, so the axis has no name that all would share."""


@dataclass(frozen=True, eq=False)
class TorchRanker:
    """Rank with a backbone as it stands; it is put into evaluation mode, and stays on its own device.

    Attributes:
        backbone: the trained module.
    """

    backbone: Backbone

    def __post_init__(self) -> None:
        """Switch dropout off."""
        self.backbone.eval()

    def scores(self, history: History, candidates: Candidates) -> Float32[np.ndarray, " candidates"]:
        """Score candidates for one history.

        Args:
            history: item rows, oldest first; may hold `ABSENT`.
            candidates: item rows, with or without vectors of their own.

        Returns:
            one score per candidate; −inf for `ABSENT` without a vector.
        """
        state = encode(self.backbone, [history])[0]
        if candidates.vectors is not None:
            return (torch.from_numpy(candidates.vectors).to(state) @ state).cpu().numpy()
        known = candidates.items != ABSENT
        rows = self.backbone.items.weight.detach()[torch.from_numpy(candidates.items[known]).long().to(state.device)]
        scores = np.full(len(candidates), -np.inf, np.float32)
        scores[known] = (rows @ state).cpu().numpy()
        return scores

    def scores_many(self, histories: Sequence[AnyHistory]) -> Float32[np.ndarray, "users items"]:
        """Score the whole catalog for many users at once.

        Args:
            histories: item rows, oldest first, one array per user; users of similar length together are faster.

        Returns:
            one row of scores per user, in item row order.
        """
        return (encode(self.backbone, histories) @ self.backbone.items.weight.detach().T).cpu().numpy()


@torch.no_grad()
def encode(backbone: Backbone, histories: Sequence[AnyHistory]) -> Float[Tensor, "users dim"]:
    """Compute present user states, in the module's present mode.

    Args:
        backbone: the module.
        histories: item rows, oldest first, one array per user.

    Returns:
        one state per user, on the backbone's device; zeros for a history without a known item.
    """
    padded = pad_left(histories, backbone.shape["length"])
    device = backbone.items.weight.device
    states: Tensor = backbone(torch.from_numpy(padded).to(device))[:, -1]
    return states * torch.from_numpy(padded[:, -1:] != ABSENT).to(device)


def pad_left(histories: Sequence[AnyHistory], length: int) -> Int64[np.ndarray, "users time"]:
    """Put histories of different lengths into one array, newest event in the last column.

    Args:
        histories: item rows, oldest first; `ABSENT` is skipped.
        length: the most events to keep of each, the newest.

    Returns:
        as many columns as the longest needs, at least one; `ABSENT` on the left.

    Example:
        >>> pad_left([np.array([7, 3, -1, 5]), np.array([2])], length=2)
        array([[ 3,  5],
               [-1,  2]])
    """
    kept = [history[history != ABSENT][-length:] for history in histories]
    padded = np.full((len(kept), max(map(len, kept), default=0) or 1), ABSENT, np.int64)
    for row, history in zip(padded, kept, strict=True):
        row[len(row) - len(history) :] = history
    return padded
