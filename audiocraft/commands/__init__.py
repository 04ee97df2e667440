"""The subcommands of `python -m audiocraft`, one file each."""
