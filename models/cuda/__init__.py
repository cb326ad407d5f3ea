"""The networks on NVIDIA GPUs; only workers with a GPU use this package.

    rows         the batch sizes that have graphs, and the split of a batch into them
    graphs       a network recorded once for each of them as a CUDA graph, then replayed
    agreement    groups of batch sizes that give a row the same bits
    regions      the blocks of a UNet through torch.compile, where that measures faster
    fused        kernels of our own in Triton, where they measure faster
    fp8          matrix products in FP8
    stream       decoding in parallel with denoising, on a separate stream
    weight_swap  one recorded network for all merged models

`models.tuning.cuda_autotune` combines these for one model. Everything except the Triton kernels
themselves also runs without a GPU, which is how it is tested.
"""
