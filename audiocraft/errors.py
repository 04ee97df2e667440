"""The exceptions a user is meant to read."""


class UserError(AssertionError):
    """A mistake or a missing thing that the user can mend.

    The message is one line: what is wrong, then the way out. Entry points print it without a traceback and exit with 2.
    An AssertionError, because the peer asserts in these places, and code written for it catches that.
    """

    def __init__(self, message: str) -> None:
        if "Original Traceback (most recent call last)" in message:
            # torch builds the error of a loader's worker anew, with that process's traceback for a message.
            message = message.rstrip().splitlines()[-1].partition(": ")[2]
        super().__init__(" ".join(message.split()))


class BadArgument(UserError, ValueError):
    """A UserError where the peer, or Python, raises ValueError."""
