"""Comparison of published networks at full size, with random weights, with their references.

finding     result of each network
folders     checkpoints in the layout of diffusers, compared with diffusers and transformers
compvis     CompVis' networks, built with CompVis' own code
ckpt        a checkpoint of these networks with random weights, and its file
originals   such files, added as `darkroom models add` does, compared with that code
"""
