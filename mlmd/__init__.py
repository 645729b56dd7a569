"""mlmd: molecular dynamics with machine-learned interatomic potentials.

P = F[D(S)]: sample structures (S), describe their atoms (D), fit a potential (F), simulate, and read properties (P).
"""

__version__ = "0.1.0"
