"""Published networks at their full size, with the same random weights, beside their reference.

finding     what is told of each network
folders     checkpoints in the layout of diffusers, beside diffusers and transformers
compvis     CompVis' networks, out of CompVis' own code
ckpt        a checkpoint of them with random weights, and its file
originals   such files, added as `darkroom models add` does, beside that code
"""
