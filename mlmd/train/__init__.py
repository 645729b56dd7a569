"""Labelled structures in, one potential file out: data sets, their examination, the fit, and its errors."""
