"""The globals that a checkpoint's pickle may name. None of them is ever looked up or called.

These are the names that torch, Lightning and numpy write into checkpoints. A file that names
anything else is refused as hostile.
"""

from __future__ import annotations

import re

# torch's storages, and their dtype as in safetensors.
STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
REBUILD_TENSOR = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
REBUILD_TYPED = "torch._tensor._rebuild_from_type_v2"
PARAMETER_DICT = "torch.nn.modules.container.ParameterDict"

NEW_ARRAY = re.compile(r"numpy\.(?:_?core)\.multiarray\._reconstruct")
ARRAY_OF_BYTES = re.compile(r"numpy\.(?:_?core)\.numeric\._frombuffer")
DTYPE = "numpy.dtype"
ENCODE = "_codecs.encode"

_TENSORS = {
    "collections.OrderedDict",
    *STORAGES,
    *REBUILD_TENSOR,
    REBUILD_PARAMETER,
    REBUILD_TYPED,
    PARAMETER_DICT,
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    DTYPE,
    "numpy.ndarray",
    ENCODE,
}

# Saved with the weights: training state, hyperparameters, versions.
_TRAINING = re.compile(
    r"(?:pytorch_lightning|lightning|lightning_fabric|lightning_utilities|omegaconf)\.[\w.]+"
    r"|torch\.(?:u?int\d+|b?float\d+|long|int|short|half|float|double|bool)"
    r"|numpy\.(?:_?core)\.multiarray\.(?:scalar|_reconstruct)"
    r"|numpy\.(?:_?core)\.numeric\._frombuffer"
    r"|numpy\.(?:u?int|float)\d+|numpy\.bool_?"
    r"|(?:builtins|__builtin__)\.(?:int|float|str|bool|bytes|list|dict|tuple|set|frozenset|complex"
    r"|object|slice|range|bytearray|unicode|long)"
    r"|collections\.(?:defaultdict|Counter|deque)"
    r"|(?:copyreg|copy_reg)\._reconstructor"
    r"|argparse\.Namespace|typing\.Any|pathlib\.(?:Posix|Windows|PurePosix)?Path"
    r"|datetime\.(?:datetime|timedelta|date|timezone)"
)


def is_allowed(name: str) -> bool:
    """Return True for a global that a checkpoint may name."""
    return name in _TENSORS or _TRAINING.fullmatch(name) is not None
