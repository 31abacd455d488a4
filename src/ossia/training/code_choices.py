"""What a personalizer of widths answers on average, for its own user, and for somebody else: the controls of every epoch.

    own                 this user's widths
    another user's      the same answers, for the wrong person
    constant            the answer for nobody in particular: widths by the mean importance over users

Whoever claims that an answer is personal must beat the other two.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ossia.evaluation import ndcg_at_k
from ossia.evaluation.controls import another_user
from ossia.personalizers import AbstractPersonalizer
from ossia.training.course import Choices
from ossia.training.events import Events
from ossia.training.frozen import FrozenBase

MOST_USERS = 4_096
"""Users that a mean is taken over; more would not move it."""
CHUNK = 512


@torch.no_grad()
def compare_choices(
    frozen: FrozenBase, personalizer: AbstractPersonalizer, learn: Events, select: Events, bits: float, seed: int
) -> Choices:
    """Give every user their own widths, another user's, and the average user's.

    Args:
        frozen: the base.
        personalizer: the personalizer, on the base's device.
        learn: whose average is the average user.
        select: on whom to compare; at least two.
        bits: average width.
        seed: of who gets whose.

    Returns:
        the comparison.
    """
    importance = mean_importance(personalizer, learn.profiles)
    steps = own_steps(personalizer, select.profiles, bits)
    own = frozen.judge(select, steps)
    another = frozen.judge(select, steps[another_user(len(select), seed=seed)])
    constant = frozen.judge(select, personalizer.cut(importance[None], bits).cpu().expand_as(steps))
    return Choices(own.mean_likelihood, another.mean_likelihood, constant.mean_likelihood, ndcg_at_k(own.ranks, 10))


@torch.no_grad()
def constant_importance(
    frozen: FrozenBase, personalizer: AbstractPersonalizer, events: Events, beta: float
) -> dict[str, np.ndarray]:
    """Average what users want, for channels and for rows.

    Args:
        frozen: the base.
        personalizer: the personalizer, on the CPU.
        events: whose profiles to average over; at most the first 4,096.
        beta: weight of log popularity in the rows' importance.

    Returns:
        one importance for everybody: `channels` and `rows`.
    """
    profiles = events.profiles[:MOST_USERS]
    vectors = frozen.vectors.cpu()
    prior = beta * torch.from_numpy(np.log1p(frozen.base.table.counts))
    shares = [
        ((chunk @ vectors.T + prior) / frozen.temperature).softmax(dim=1).sum(dim=0) for chunk in torch.split(profiles, CHUNK)
    ]
    rows = torch.stack(shares).sum(dim=0) / len(profiles)
    return {"channels": mean_importance(personalizer, profiles).numpy(), "rows": rows.numpy()}


@torch.no_grad()
def mean_importance(personalizer: AbstractPersonalizer, profiles: Float[Tensor, "users dim"]) -> Float[Tensor, " channels"]:
    """Average importance over users, each of whom has mean 1: nobody is louder than others.

    Args:
        personalizer: the personalizer.
        profiles: on the CPU; at most the first 4,096 are read.

    Returns:
        the mean, on the personalizer's device.
    """
    read = profiles[:MOST_USERS].to(personalizer.step_bits.device)
    return torch.stack([personalizer.importance(chunk).sum(dim=0) for chunk in torch.split(read, CHUNK)]).sum(dim=0) / len(read)


@torch.no_grad()
def own_steps(
    personalizer: AbstractPersonalizer, profiles: Float[Tensor, "users dim"], bits: float
) -> Float32[Tensor, "users steps channels"]:
    """Choose each user's widths at an average, hard.

    Args:
        personalizer: the personalizer.
        profiles: on the CPU.
        bits: average width.

    Returns:
        masks, on the CPU.
    """
    chunks = torch.split(profiles.to(personalizer.step_bits.device), CHUNK)
    return torch.cat([personalizer.cut(personalizer.importance(chunk), bits).cpu() for chunk in chunks])
