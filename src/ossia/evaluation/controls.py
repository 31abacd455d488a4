"""What a personal thing must beat before it may be called personal.

A hypernetwork always has an answer, and the answer always has a score. Whether the score is due to the *person* is shown by
giving the same network's answers to the wrong people, or nobody's answer to all, at the same bytes:

    another user's    every user ranks with the codes that were made for somebody else
    shuffled          the user's own codes, dealt out at random over channels of the same size: as many channels of each width
    constant          one allocation for everybody, from the average importance

If the quality holds under the first, nothing is personal; if it holds under the second, the choice of channels does not
matter; under the third, choosing matters and the person does not. And two measures of how much the codes differ between
users at all. All of these are functions on arrays: nothing here knows a model.
"""

import numpy as np
from jaxtyping import Float, Int, Int64, UInt8

from ossia.errors import UsageError
from ossia.types import WIDTHS


def another_user(users: int, *, seed: int) -> Int64[np.ndarray, " users"]:
    """Pair every user with somebody else: a random permutation that leaves nobody in place.

    Drawn evenly among all such permutations, by drawing until one comes (on average e = 2.7 times).

    Args:
        users: how many, at least two.
        seed: of the random draws.

    Returns:
        for each user the number of another one; everybody is named once.

    Raises:
        UsageError: fewer than two users.
    """
    if users < 2:
        raise UsageError(f"another user: expected at least 2 users to swap between, got {users}")
    rng = np.random.default_rng(seed)
    everybody = np.arange(users)
    while np.any((other := rng.permutation(users)) == everybody):
        pass
    return other


def shuffle_codes(
    codes: UInt8[np.ndarray, "users channels"], inputs: Int[np.ndarray, " channels"], *, seed: int
) -> UInt8[np.ndarray, "users channels"]:
    """Deal each user's codes out anew among channels with equally many inputs.

    The histogram of widths stays the same in each size of channel, and so do the bytes at rest, exactly.

    Args:
        codes: 0 … 3, naming `WIDTHS`; one row per user.
        inputs: how many weights each channel has.
        seed: of the random draws.

    Returns:
        the shuffled codes; every user gets a shuffle of their own.
    """
    rng = np.random.default_rng(seed)
    shuffled = codes.copy()
    for size in np.unique(inputs):
        alike = inputs == size
        shuffled[:, alike] = rng.permuted(codes[:, alike], axis=1)
    return shuffled


def constant_importance(importance: Float[np.ndarray, "users channels"]) -> Float[np.ndarray, " channels"]:
    """One importance for everybody: the mean over users, each user's scaled to sum 1 so that nobody is louder.

    Allocating with it under the same budget gives the control "constant codes".

    Args:
        importance: at least 0, one row per user; a row of zeros says nothing and counts for nothing.

    Returns:
        one importance per channel, summing to 1 (or zeros, if all rows are).

    Raises:
        UsageError: there is no user.

    Example:
        >>> constant_importance(np.array([[1.0, 3.0], [20.0, 20.0]]))
        array([0.375, 0.625])
    """
    if not len(importance):
        raise UsageError("constant importance: expected at least one user, got none")
    loudness = importance.sum(axis=1, keepdims=True)
    voices = np.divide(importance, loudness, out=np.zeros_like(importance), where=loudness > 0)
    return voices.sum(axis=0) / max(1, np.count_nonzero(loudness))


def mean_distance(codes: UInt8[np.ndarray, "users channels"]) -> float:
    """Mean Hamming distance between two different users: the share of channels in which their codes differ.

    Args:
        codes: 0 … 3, one row per user, at least two.

    Returns:
        0 (everybody has the same codes) … 1.

    Raises:
        UsageError: fewer than two users.

    Example:
        >>> mean_distance(np.array([[1, 1, 3, 3], [1, 3, 3, 1]], np.uint8))
        0.5
    """
    users = len(codes)
    if users < 2:
        raise UsageError(f"mean distance: expected at least 2 users, got {users}")
    shares = _shares(codes)
    return float((1 - (shares**2).sum(axis=0)).mean() * users / (users - 1))


def code_entropy(codes: UInt8[np.ndarray, "users channels"]) -> float:
    """Entropy of a channel's code over users, averaged over channels, in bits.

    Args:
        codes: 0 … 3, one row per user.

    Returns:
        0 (every channel has one code for everybody) … 2.

    Example:
        >>> code_entropy(np.array([[1, 0], [1, 3]], np.uint8))
        0.5
    """
    shares = _shares(codes)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(abs((shares * logs).sum(axis=0).mean()))


def _shares(codes: UInt8[np.ndarray, "users channels"]) -> Float[np.ndarray, "widths channels"]:
    """Share of users that have each code, per channel."""
    return np.stack([(codes == code).mean(axis=0) for code in range(len(WIDTHS))])
