"""The served models that an extra network fits, for `darkroom models check` and `add`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.detect.kinds import Kind
from models.conditioners.textual_inversion import embedding_problem
from models.loading.checkpoint_report import CheckpointReport
from models.loading.controlnets import misfit
from models.loading.embeddings import Embeddings
from models.loading.loader import default_device
from models.lora.errors import LoraError
from models.lora.merging import layers_of
from models.lora.reading import check_lora
from models.pipeline import LatentDiffusion
from protocol.registry.models_config import InvalidModelsConfig
from worker.model_info.model_description import EMBEDDINGS, DescribedModels, describe_models
from worker.settings import WorkerSettings


def with_fits(
    report: CheckpointReport, path: Path, name: str, settings: WorkerSettings
) -> CheckpointReport:
    """Return the report of the file or folder at `path` with the served models that it fits.

    name: of the extra network, which for an embedding must be a word that the model does not have.
    The report of another kind is returned as it is: the models config says which model uses it.

    Raises InvalidModelsConfig.
    """
    problem = _PROBLEMS.get(report.kind) if report.valid else None
    if problem is None:
        return report
    models = _described(settings)
    source = report.folder or path  # of a single file, the folder with its configuration
    installed = Embeddings(settings.models_home / EMBEDDINGS)
    reasons = {
        served: None
        if name in described.card.embeddings and path.parent == settings.models_home / EMBEDDINGS
        else problem(source, name, installed.extended(described.skeleton))
        for served, described in models.descriptions.items()
    }
    unknown = [f"not compared with {served}: {why}" for served, why in models.broken.items()]
    return replace(report, fits=reasons, notes=(*report.notes, *unknown))


def _described(settings: WorkerSettings) -> DescribedModels:
    try:
        return describe_models(settings, default_device())
    except InvalidModelsConfig:
        raise
    except (CheckpointError, ValueError) as error:  # of the only model
        return DescribedModels({}, {settings.model or "bundled": str(error)}, None)


def _lora_problem(path: Path, _: str, model: LatentDiffusion) -> str | None:
    try:
        check_lora(path, layers_of(model))
    except LoraError as error:
        return error.reason
    return None


_PROBLEMS: Mapping[Kind | None, Callable[[Path, str, LatentDiffusion], str | None]] = {
    "lora": _lora_problem,
    "embedding": lambda path, name, model: embedding_problem(path, name, model.conditioner),
    "controlnet": lambda path, _, model: misfit(path, model),
}
