"""What can go wrong with a teacher: for one request, or for the whole annotation."""

from mulcot_rd.errors import UserError


class TeacherError(UserError):
    """The annotation can't go on; the message is one sentence with the cure. Answers in the ledger are kept."""


class DryRunFinished(TeacherError):  # noqa: N818 - the end of a dry run is no error of anybody's
    """A dry run printed its estimate; nothing was asked, so there is nothing to go on with."""


class BudgetReachedError(TeacherError):
    """The next request might pass ``teacher.budget_usd``, and nothing is in flight that may turn out cheaper."""


class RequestFailedError(RuntimeError):
    """One request got no answer, for the reason in the message; others may well get theirs."""


class RequestRefusedError(RequestFailedError):
    """The server read one request and will never answer it: it is too long, or was filtered."""


class TransientFaultError(Exception):
    """A fault that may heal: the same request is sent again.

    Attributes:
        retry_after_s: How long the server asked to wait, in seconds, or ``None``.
        maybe_billed: Whether the server may have worked on an answer that did not arrive.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None, *, maybe_billed: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.maybe_billed = maybe_billed
