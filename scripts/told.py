"""What a script says in the end: its lines, or a user's mistake in one."""

import sys
from collections.abc import Callable, Iterable

from audiocraft.errors import UserError


def tell(work: Callable[[], Iterable[str]]) -> int:
    """Print the lines that `work` returns. The exit status: 0, or 2 where it raises UserError, told on stderr."""
    try:
        print("\n".join(work()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
