"""``python -m mlmd``."""

from mlmd.cli import main

main()
