"""LoRA: low-rank changes of a model's layers, read from a file and merged (Hu et al. 2021).

    original_names  the names of a UNet's layers in the original (sgm) code
    names           every spelling of a layer's name in files, as data
    layers          a model's layers by all their names
    changes         what a file adds to one parameter; full differences
    factors         LoRA: scale · up @ down
    hadamard        LoHa: the product of two such pairs, element by element
    kronecker       LoKr: the Kronecker product of a small matrix and a larger one
    dora            DoRA: any of these as a change of direction, with learned lengths
    peft_config     PEFT's configuration, in the header or in a file of its own
    resolving       a file's keys, resolved against a model's layers
    reading         the tensors of a file
    recommended     the sampler and steps that a LoRA was trained for
    facts           these, trigger words and previews
    registry        the files of the installed LoRAs and of a model's own, by name
    merging         a model with LoRAs: changed layers of its own, all else shared

A model with LoRAs is another model that shares most of its memory; it is used like any other.
"""
