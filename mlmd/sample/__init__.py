"""Structures to learn from: frames of runs that know nothing of each other, and their labels by any calculator."""
