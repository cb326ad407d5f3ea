"""The networks in OpenVINO: on CPUs about twice as fast as eager PyTorch, for any batch size.

Converting takes seconds, so the converted graph (IR) is kept on disk under the hash of the weights
and of the code; the next start reads it at once. A row's bits do not depend on the other rows
(measured; held by `tests/models/executors/test_executors.py`).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from copy import copy
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.executors.base import Network, fingerprint

if TYPE_CHECKING:
    import openvino

UNUSED_S = 90 * 86400.0
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def available() -> bool:
    """Return True if OpenVINO is installed."""
    try:
        _openvino()
    except ImportError:
        return False
    return True


def has_bfloat16() -> bool:
    """Return True if this CPU multiplies bfloat16 natively; on others it only costs precision."""
    capabilities: list[str] = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


class OpenVino:
    """Runs a network with OpenVINO on the CPU, float32 in and out, `dtype` inside."""

    def __init__(self, network: Network, dtype: torch.dtype, cache: Path | None) -> None:
        """Compile the graph, for as many threads as PyTorch uses.

        cache: folder for converted graphs, or None.
        """
        self._network, self._dtype, self._cache = network, dtype, cache
        core = _openvino().Core()
        self._compile(_graph(network, core, cache), core)

    @property
    def weight_bytes(self) -> int:
        """Return the approximate memory of the graph's own copies of the weights."""
        size = 2 if self._dtype == torch.bfloat16 else 4
        return size * sum(p.numel() for p in self._network.module.parameters())

    def with_weights(self, network: Network) -> OpenVino:
        """Return the run of `network` from the same graph with other constants.

        Converting the network again would take longer.
        """
        other = copy(self)
        core = _openvino().Core()
        graph = _graph(self._network, core, self._cache)
        if not _set_constants(graph, _changed(self._network.module, network.module)):
            graph = _convert(network)
        other._compile(graph, core)
        return other

    def _compile(self, graph: openvino.Model, core: openvino.Core) -> None:
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self._dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = core.compile_model(graph, "CPU", options)
        self._request = compiled.create_infer_request()

    def __call__(self, *inputs: Tensor) -> Tensor:
        arrays = [t.float().contiguous().numpy() for t in inputs]
        # A copy, because the next call writes its output to the same memory.
        return torch.from_numpy(self._request.infer(arrays)[0].copy())


def _openvino() -> Any:
    """Import the package without its telemetry, so that nothing is sent to other hosts."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _graph(network: Network, core: openvino.Core, cache: Path | None) -> openvino.Model:
    if cache is None:
        return _convert(network)
    path = cache / f"{network.name}-{fingerprint(network)}-{version('openvino')}.xml"
    if path.exists():
        path.touch()
    else:
        _delete_unused(cache)
        _save(_convert(network), path)
    return core.read_model(path)


def _changed(module: nn.Module, merged: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that `merged` does not share with `module`, by name."""
    before = dict(module.named_parameters())
    return {name: p for name, p in merged.named_parameters() if p is not before[name]}


def _set_constants(graph: openvino.Model, values: dict[str, Tensor]) -> bool:
    """Replace the constants of these parameters; return False if one is not found."""
    constants = {
        node.get_friendly_name(): node
        for node in graph.get_ops()
        if node.get_type_name() == "Constant"
    }
    found = {name: constants.get(f"self.{name}") for name in values}
    for name, node in found.items():
        if node is None or list(node.shape) != list(values[name].shape):
            return False
        array = values[name].detach().float().contiguous().numpy()
        constant = _openvino().opset13.constant(array)
        for user in node.output(0).get_target_inputs():
            user.replace_source_output(constant.output(0))
    return True


def _delete_unused(cache: Path) -> None:
    """Delete graphs that no start has used for `UNUSED_S`: of other models or older versions."""
    for path in cache.glob("*.xml"):
        if time.time() - path.stat().st_mtime > UNUSED_S:
            path.unlink(missing_ok=True)
            path.with_suffix(".bin").unlink(missing_ok=True)


def _convert(network: Network) -> openvino.Model:
    ov = _openvino()
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing warns that sizes become constants; a test shows that the free ones do not.
        warnings.simplefilter("ignore")
        model = ov.convert_model(network.module, example_input=network.examples(2))
    shapes = {}
    for port, example, free in zip(model.inputs, network.examples(2), network.free, strict=True):
        shapes[port] = [-1 if i in free else size for i, size in enumerate(example.shape)]
    model.reshape(shapes)
    return model


def _save(model: openvino.Model, path: Path) -> None:
    """Write the graph completely or not at all, also if another process does the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        _openvino().save_model(model, temporary, compress_to_fp16=False)
        # The description last, because readers look for it.
        os.replace(temporary.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(temporary, path)
