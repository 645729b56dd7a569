"""LAMMPS as the engine: one system on many processes, each of which has a part of the cell.

LAMMPS divides the cell, moves atoms from process to process and keeps copies of those near a boundary up to date
(`domains`). Forces are those of mlmd's own evaluators on the atoms of each process (`mlmd.potentials.centres`); what
they find for copies goes back to the owners (`returns`). Equations of motion are those of the OpenMM engine, one by one
(`mlmd.engine.motion`), so that the same input means the same ensemble and a run can be continued to the last bit. The
first process leads (`team`): it alone has the run folder, and asks all of them (`part`) for what is due.
"""
