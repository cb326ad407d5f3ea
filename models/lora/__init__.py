"""LoRA: small changes of a model's layers, read from a file and merged (Hu et al. 2021).

    original_names  what the layers of a UNet are called in the original (sgm) code
    names           every spelling of a layer's name that files use, as data
    layers          a model's layers, and what they are called
    factors         one layer's change, scale · up @ down, and what it adds to a weight
    peft_config     what PEFT says beside its tensors
    reading         a file's header, resolved against a model's own layers; and its numbers
    shelf           the files that an operator has added, by name
    merging         a variant of a model: changed layers of its own, all else shared

A model with LoRAs is another model that shares most of its memory: whoever draws with it need not
know the difference.
"""
