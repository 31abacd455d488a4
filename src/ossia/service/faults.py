"""What the service says to a request that it does not serve: an HTTP status, a word, a sentence."""

from ossia.errors import OssiaError


class RequestError(OssiaError):
    """A request that is not served, for a reason of the transport rather than of its content.

    Attributes:
        status: HTTP's.
        name: why, in a word that a metric can count.
        retry_after_s: when it may be worth while to ask again; 0: never in this form.
    """

    def __init__(self, status: int, name: str, message: str, *, retry_after_s: int = 0) -> None:
        """Say what is wrong.

        Args:
            status: HTTP's.
            name: why, in a word.
            message: where, what was expected, what came.
            retry_after_s: when to come again.
        """
        super().__init__(message)
        self.status, self.name, self.retry_after_s = status, name, retry_after_s


def overloaded(retry_after_s: int) -> RequestError:
    """Make the refusal for a full queue, or for one who waited in vain.

    Args:
        retry_after_s: when to come again.

    Returns:
        the refusal.
    """
    return RequestError(503, "overloaded", "queue: expected room, got none in time", retry_after_s=retry_after_s)


def unauthorized(message: str) -> RequestError:
    """Make the refusal for one who did not show who it is.

    Args:
        message: what was expected, what came.

    Returns:
        the refusal.
    """
    return RequestError(401, "unauthorized", message)
