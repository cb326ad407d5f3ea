"""Executors run a model's networks: eager PyTorch, OpenVINO or a frozen compile on a CPU.

    base        the UNet, the decoder and the encoder as functions of plain tensors
    eager       calls the modules, padded so that other images in a batch do not change the bits
    openvino    the same graphs in OpenVINO, converted once and kept on disk
    compiled    the same graphs through torch.compile, with the weights frozen in
    controlled  the UNet together with ControlNets
    merged      the executors of a model for the same model with LoRAs merged in
    tiling      encoding and decoding of large images in tiles

`models.tuning.executor_autotune` measures these and chooses the fastest. An executor is made before
the worker is ready and does not change afterwards: an image is a function of its request and of the
executor that generated it.
"""
