"""The error for what a user can put right."""


class UserError(ValueError):
    """Something a user did or left undone; the message is one sentence with the cure."""


class StaleInputError(UserError):
    """Files on disk that were made from other posts, another backbone or other parameters than those at hand."""
