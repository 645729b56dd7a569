"""The engine: OpenMM and only here. From an input file to a run folder that can be stopped and continued exactly."""
