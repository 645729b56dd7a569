"""freud and MDAnalysis do what `benchmarks/analysis.py` asks for; run by a Python that has them.

pip install freud-analysis MDAnalysis tidynamics
python analysis_peers.py freud-msd walk.dcd         # prints {"seconds": ..., "megabytes": ..., "value": ...}
"""

from __future__ import annotations

import json
import resource
import sys
import time

import freud
import MDAnalysis
import numpy as np


def frames(path: str) -> MDAnalysis.Universe:
    """A trajectory without a topology, of argon."""
    with MDAnalysis.lib.formats.libdcd.DCDFile(path) as file:
        n_atoms = file.header["natoms"]
    universe = MDAnalysis.Universe.empty(n_atoms, trajectory=True)
    universe.load_new(path)
    return universe


def freud_msd(path: str) -> float:
    """Of all atoms at all lags by FFT; freud wants all positions."""
    universe = frames(path)
    positions = np.array([one.positions for one in universe.trajectory])
    return float(freud.msd.MSD().compute(positions).msd[100])


def mdanalysis_msd(path: str) -> float:
    """The same by MDAnalysis."""
    from MDAnalysis.analysis.msd import EinsteinMSD

    return float(EinsteinMSD(frames(path), select="all", fft=True).run().results.timeseries[100])


def freud_rdf(path: str) -> float:
    """g(r) to 10 Å in 200 bins, over all frames."""
    found = freud.density.RDF(bins=200, r_max=10.0)
    for one in frames(path).trajectory:
        found.compute((freud.box.Box.from_box(one.dimensions[:3]), one.positions), reset=False)
    return float(found.rdf[100])


def mdanalysis_rdf(path: str) -> float:
    """The same by MDAnalysis."""
    from MDAnalysis.analysis.rdf import InterRDF

    atoms = frames(path).atoms
    return float(InterRDF(atoms, atoms, nbins=200, range=(0.0, 10.0), exclusion_block=(1, 1)).run().results.rdf[100])


TASKS = {
    "freud-msd": freud_msd, "mdanalysis-msd": mdanalysis_msd, "freud-rdf": freud_rdf, "mdanalysis-rdf": mdanalysis_rdf,
}  # fmt: skip

if __name__ == "__main__":
    begun, used = time.perf_counter(), time.process_time()
    value = TASKS[sys.argv[1]](sys.argv[2])
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"seconds": seconds, "processor": processor, "megabytes": peak, "value": value}))
