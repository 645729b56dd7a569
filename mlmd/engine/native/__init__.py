"""Dynamics in the compiled library, for systems so small that OpenMM and Python around a step cost as much as forces.

`mlmd.engine.native.stage` is what OpenMM does in `mlmd.engine.stage`, with the same equations of motion.
"""
