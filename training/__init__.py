"""Training of the bundled model: the two stages of Rombach et al. (CVPR 2022) on emoji art.

Everything it downloads or computes on the way lives in one ignored work folder; only `export`
writes into the repository. `python -m training --help` lists the steps in their order.
"""
