"""Golden trajectories: what small runs compute, to the bit, on two commits; and within rounding, on other CPUs.

They drive the package by its command line alone and read only the files that it writes, so the same code runs on a
commit whose modules lie elsewhere. `python -m benchmarks.golden --help` explains the command.
"""
