"""Biases: PLUMED and only here; positions in, bias energy and forces out."""
