"""The networks on NVIDIA GPUs: what a worker with one uses, and nobody else imports.

    rows         which batch sizes there are, and how a batch is made of them
    graphs       a network recorded once for each of them as a CUDA graph, replayed ever after
    agreement    which of them give a row the same bits
    regions      the blocks of a UNet through torch.compile, where that measures faster
    fused        kernels of our own in Triton, where they measure faster
    fp8          matrix products in eight bits, and `quality`, the gate before them
    stream       decoding beside the denoising, on a stream of its own
    prepare      puts these together for one model

Everything but the Triton kernels themselves also runs without a GPU, which is how it is tested.
"""
