"""``python -m mlmd``, which does the same as ``mlmd``.

Asked for a module by ``-m``, Python looks for all of them in the present folder first; started as the command ``mlmd``
it does not look there. It shall not, either way: a file ``ase.py`` that lies beside the data would be run in the place
of the package, and ``calculator = "evil:Calc"`` would run a file that came with an input, without asking for its
digest. What lies here is named as such, ``"./own.py:Calc"``, and trusted. Only a checkout of mlmd from which it is run
without being installed stays on the path.
"""

import sys
from pathlib import Path


def forget_present_folder() -> None:
    """Take away what ``-m`` has put first on the path of modules."""
    present = not sys.flags.safe_path and bool(sys.path)
    if present and Path(sys.path[0]).absolute() != Path(__file__).absolute().parents[1]:
        del sys.path[0]


if __name__ == "__main__":
    forget_present_folder()
    from mlmd.cli import main

    main()
