"""What stands in a table of results: one row a ranker, differences between two, and what made them.

A figure never stands alone: beside a metric its 95 % interval, beside quality its bytes. Three kinds of bytes, because they
are paid by different people at different times:

    rest_bytes      what the device keeps: encoder and table, packed at the widths in use
    device_bytes    what goes to the device for this user beyond what everybody has
    payload_bytes   the payload alone, as it crosses the wire

A figure that was not measured is None. How rows are shown is in `table.py`, and `report.py` for a page.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ossia.evaluation.bootstrap import Interval, bootstrap_mean, paired_bootstrap
from ossia.evaluation.metrics import gains_at_k, hits_at_k
from ossia.evaluation.protocol import FULL, Judgement, check_protocols

Family: TypeAlias = Literal["baseline", "base", "personal", "control"]
"""What kind of thing a row is: counts, the same weights for everybody, made for the user, or what that must beat."""


@dataclass(frozen=True)
class Row:
    """One ranker in the table of results.

    Attributes:
        name: what was ranked with.
        family: what kind of thing it is; gives the color in the report.
        ndcg_at_10: mean and interval.
        hr_at_10: mean and interval.
        rest_bytes: kept by the device, averaged over users; None: not measured.
        device_bytes: sent to the device for one user beyond what everybody has, averaged over users.
        payload_bytes: the payload alone, averaged over users.
        cases: how many held-out events were judged.
        repeat_share: share of the cases whose target repeats an item of the history.
        protocol: what was ranked; a table holds rows of one protocol.
        candidate_recall: share of the cases whose given list holds the target; None where no list was given.
    """

    name: str
    family: Family
    ndcg_at_10: Interval
    hr_at_10: Interval
    rest_bytes: float | int | None = None
    device_bytes: float | int | None = None
    payload_bytes: float | int | None = None
    cases: int = 0
    repeat_share: float = 0.0
    protocol: str = FULL
    candidate_recall: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two rows against each other, user by user.

    Attributes:
        name: the row that is to be better.
        versus: the row that it is held against.
        ndcg_at_10: mean difference name − versus, with interval and two-sided p.
        log_likelihood: the same of the next item's log-likelihood, in nats; None: not measured.
    """

    name: str
    versus: str
    ndcg_at_10: Interval
    log_likelihood: Interval | None = None


@dataclass(frozen=True)
class Provenance:
    """What one needs to get a table again.

    Attributes:
        command: what was run.
        seeds: of everything random.
        machine: processor, cores and threads in use.
        versions: of the packages that shape the figures, such as `{"torch": "2.13.0"}`.
        data: name of the data set.
        data_hash: the identity of the prepared data (hexadecimal).
        date: ISO date of the run.
    """

    command: str
    seeds: tuple[int, ...]
    machine: str
    versions: dict[str, str]
    data: str
    data_hash: str
    date: str


def make_row(judgement: Judgement, family: Family, *, seed: int = 0) -> Row:
    """Turn ranks into a row, its intervals drawn over users.

    Args:
        judgement: the ranks of one ranker.
        family: what kind of thing it is.
        seed: of the random draws of the intervals.

    Returns:
        a row without bytes; add them by `with_bytes`.

    Raises:
        UsageError: there is no case.
    """
    return Row(
        name=judgement.name,
        family=family,
        ndcg_at_10=bootstrap_mean(gains_at_k(judgement.ranks, 10), seed=seed),
        hr_at_10=bootstrap_mean(hits_at_k(judgement.ranks, 10), seed=seed),
        cases=judgement.ranks.shape[-1],
        repeat_share=judgement.repeat_share,
        protocol=judgement.protocol,
        candidate_recall=judgement.candidate_recall,
    )


def with_bytes(
    row: Row,
    *,
    rest_bytes: float | int | None = None,
    device_bytes: float | int | None = None,
    payload_bytes: float | int | None = None,
) -> Row:
    """Add what a row costs.

    Args:
        row: the row.
        rest_bytes: kept by the device; None leaves a dash.
        device_bytes: sent to the device for one user.
        payload_bytes: the payload alone.

    Returns:
        a new row.
    """
    return replace(row, rest_bytes=rest_bytes, device_bytes=device_bytes, payload_bytes=payload_bytes)


def compare(a: Judgement, b: Judgement, *, seed: int = 0) -> Comparison:
    """Compare two judgements of the same cases by NDCG@10, paired by user.

    Args:
        a: the one that is to be better.
        b: the one that it is held against.
        seed: of the random draws.

    Returns:
        the mean difference a − b with its interval and p.

    Raises:
        UsageError: the two are not about the same cases, or of different protocols.
    """
    check_protocols([a.protocol, b.protocol])
    difference = paired_bootstrap(gains_at_k(a.ranks, 10), gains_at_k(b.ranks, 10), seed=seed)
    return Comparison(a.name, b.name, difference)
