"""One error family, grouped by who is at fault.

Every message says where, what was expected and what came: `codes: expected 288 bytes for 1,152 channels, got 3`.
The command line prints the message alone and exits with the class's `exit_code`; a traceback means a fault of ours.
"""

from typing import ClassVar, Literal, TypeAlias

Refusal: TypeAlias = Literal[
    "malformed",
    "truncated",
    "oversized",
    "unsigned",
    "unknown_key",
    "revoked_key",
    "outlived_key",
    "forged",
    "another_base",
    "another_table",
    "other_rows",
    "another_device",
    "from_the_future",
    "expired",
    "replayed",
]
"""Every reason for which a device refuses a payload, as one word: a log, a metric or a program can count on it."""


ReleaseRefusal: TypeAlias = Literal[
    "malformed",
    "another_role",
    "forged",
    "rollback",
    "frozen",
    "mixed",
    "oversized",
    "too_slow",
    "missing",
    "other_bytes",
    "extraneous",
    "not_a_base",
]
"""Every reason for which a device refuses a release or its metadata, as one word; `docs/releases.md` says when."""


class OssiaError(Exception):
    """The parent of every error that this library raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(OssiaError):
    """The caller asked for something that does not exist or does not fit together."""

    exit_code: ClassVar[int] = 2


class DataError(OssiaError):
    """A log, a history or a list of candidates that a person wrote can't be used; names the file and the place."""

    exit_code: ClassVar[int] = 3


class ArtifactError(OssiaError):
    """A folder or file that ossia wrote (data, run, base, table, personalizer) is missing, damaged or of another kind."""

    exit_code: ClassVar[int] = 4


class PayloadError(OssiaError):
    """Bytes from another machine that are not a valid payload or profile. The device goes on with what it had.

    Attributes:
        refusal: why, in one word; the message says it in a sentence.
    """

    exit_code: ClassVar[int] = 5

    def __init__(self, message: str, refusal: Refusal = "malformed") -> None:
        """Say what is wrong.

        Args:
            message: where, what was expected, what came.
            refusal: the same in one word.
        """
        super().__init__(message)
        self.refusal = refusal


class ReleaseError(OssiaError):
    """Release metadata, or files of a release, that a device does not take. It goes on with what it had.

    Attributes:
        refusal: why, in one word; the message says it in a sentence.
    """

    exit_code: ClassVar[int] = 7

    def __init__(self, message: str, refusal: ReleaseRefusal) -> None:
        """Say what is wrong.

        Args:
            message: where, what was expected, what came.
            refusal: the same in one word.
        """
        super().__init__(message)
        self.refusal = refusal


class BudgetError(OssiaError):
    """No adaptation fits the device's budget.

    Attributes:
        budget: the name of the budget that can't be met, such as `weight_bytes`.
        floor: the least that this base needs of it, in the budget's own unit.
    """

    exit_code: ClassVar[int] = 6

    def __init__(self, budget: str, floor: float, asked: float) -> None:
        """Say which budget can't be met, by how much.

        Args:
            budget: a field of `Budget`.
            floor: the least that can be had.
            asked: what the device offered.
        """
        super().__init__(f"{budget}: expected at least {floor:,.10g}, got {asked:,.10g}")
        self.budget = budget
        self.floor = floor
