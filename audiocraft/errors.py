"""The exceptions a user is meant to read."""

# Characters of a message.
_LONGEST = 2000


class UserError(AssertionError):
    """A mistake or a missing thing that the user can mend.

    The message is one line: what is wrong, then the way out. Entry points print it without a traceback and exit with 2.
    An AssertionError, because the peer asserts in these places, and code written for it catches that.
    """

    def __init__(self, message: str) -> None:
        words = " ".join(message.split())
        # What a damaged file holds may stand in it, at any length.
        super().__init__(words if len(words) <= _LONGEST else f"{words[: _LONGEST // 2]} … {words[-_LONGEST // 2 :]}")


class BadArgument(UserError, ValueError):
    """A UserError where the peer, or Python, raises ValueError."""


def of_worker(error: UserError) -> UserError:
    """The error of another process as it was there: torch builds one anew with that process's traceback in it."""
    _, raised, message = str(error).rpartition(f"{__name__}.")
    return type(error)(message.partition(": ")[2]) if raised and "Original Traceback" in str(error) else error
