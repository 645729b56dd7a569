"""Potentials of the fused kind on a GPU: programs that are compiled when a run asks for them, by `MLMD_GPU_KERNELS`.

`src` holds them. A program is compiled for a potential and a device by NVRTC, which comes with torch (`nvrtc.py`), and,
by tests, for the processor with the compiler that mlmd was installed with (`host.py`).
"""
