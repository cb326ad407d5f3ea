"""Training of the bundled model: the two stages of Rombach et al. (CVPR 2022) on emoji images.

Downloads and intermediate results are in one work folder that git ignores; only `export` writes
into the repository. `python -m training --help` lists the steps in order.
"""
