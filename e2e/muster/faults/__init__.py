"""The fault matrix: each fault, at each moment of each kind of step, on real processes.

A cell (`cells.py`) brings a device of a stand (`stand.py`) to a moment (`moments.py`) of a step
(`kinds.py`), breaks something (`breakages.py`), and looks how it ends.
"""
