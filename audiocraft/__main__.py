"""`python -m audiocraft`."""

from audiocraft.cli import main

if __name__ == "__main__":
    main()
