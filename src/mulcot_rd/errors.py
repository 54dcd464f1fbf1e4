"""What ends a command early: something that a user can put right, or the report that was asked for."""


class UserError(ValueError):
    """Something a user did or left undone; the message is one sentence with the cure."""


class StaleInputError(UserError):
    """Files on disk that were made from other posts, another backbone or other parameters than those at hand."""


class DryRunEnded(Exception):  # noqa: N818 - no error: the report is what was asked for
    """The report of a dry run, which takes the place of the run."""
