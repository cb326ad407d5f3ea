"""Triton kernels of our own; importing one needs the triton package, so `models.cuda.fused` does.

Each computes the same as a function of PyTorch elsewhere in `models`, with float32 inside, and is
batch-invariant by construction: the split of a row depends on its own size only.
"""
