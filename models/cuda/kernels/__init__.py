"""Kernels of our own in Triton. Importing one needs the triton package; `models.cuda.fused` looks.

Each computes what a function of PyTorch beside it in the code computes, with float32 inside, and
is batch-invariant by construction: how a row is cut up depends on its own size only.
"""
