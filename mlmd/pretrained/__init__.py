"""Other people's models behind the protocol of a potential, one file for each framework, imported only when asked for.

Each file of a framework stands alone: `calculator(**options)` makes the framework's ASE calculator and `facts` tells
what it knows, without anything of mlmd, so that the Python of another environment can run it (`serve.py`).
"""
