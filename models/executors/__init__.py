"""What runs a model's networks: eager PyTorch, OpenVINO or a frozen compile on a CPU.

    networks   the UNet, the decoder and the encoder as functions of plain tensors
    eager      calls the modules as they are, padded so that company does not change the bits
    openvino   the same graphs in OpenVINO, converted once and kept on disk
    compiled   the same graphs through torch.compile, with the weights frozen in
    choice     measures those and takes the fastest

An executor is made before the worker is ready and does not change afterwards: a picture is a
function of its request and of the executor that drew it.
"""
