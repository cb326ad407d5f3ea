"""LoRA: small changes of a model's layers, read from a file and merged (Hu et al. 2021).

original_names  what the layers of a UNet are called in the original (sgm) code
names           every spelling of a layer's name that files use, as data
factors         one layer's change, scale · up @ down, and what it adds to a weight
reading         a file's header, resolved against a model's own layers; and its numbers
merging         a variant of a model: changed layers of its own, all else shared
"""
