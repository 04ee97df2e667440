"""The subcommands of `python -m audiocraft`, one file each, and what they write: `takes`."""
