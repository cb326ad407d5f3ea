"""The icons of the training set: their sets, names, captions and colours."""
