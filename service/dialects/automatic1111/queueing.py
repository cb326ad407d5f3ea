"""Queues the job of a request, or the jobs of one with several initial images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from anyio import to_thread
from fastapi import Request

from protocol.clients.options import ChosenOptions
from protocol.errors import DarkroomError, InvalidRequest
from protocol.queue.idempotency import HEADER
from protocol.queue.job import JobView
from protocol.request.model_card import ModelCard
from protocol.request.request import GenerationRequest
from service.dialects.automatic1111.options import effective_options, model_named
from service.dialects.automatic1111.requests import Generation, ImageToImage
from service.dialects.automatic1111.translation import CLIENT_NAMES, Translation, task_of, translate
from service.dialects.lenient import file_field
from service.jobs.batch_submitter import Sent
from service.routes.deps import Services
from service.routes.links import path_of
from service.routes.submission import fetched, parse_task, submit, webhook_target
from service.schemas.data_uri import decode_file
from service.schemas.requests import TaskRequest

Images = Sequence[tuple[GenerationRequest, int]]


@dataclass(frozen=True)
class Queued:
    """The jobs of a request as queued, and of each image its complete request and its seed."""

    jobs: Sequence[JobView]
    images: Images


async def queued(asked: Generation, request: Request, services: Services) -> Queued:
    """Queue a request, by the options that this process has seen last, or else by newer ones."""
    chosen = services.options.last_seen(request.scope["user"].client)
    while True:
        try:
            return await _queue(asked, chosen, request, services)
        except DarkroomError:  # newer options may be why, or make it right
            before, chosen = chosen, await services.options.read(chosen.client)
            if chosen == before:
                raise


async def _queue(
    asked: Generation, chosen: ChosenOptions, request: Request, services: Services
) -> Queued:
    request.scope["field_names"] = CLIENT_NAMES
    options = effective_options(chosen.values, asked)
    task, models = task_of(asked), services.submitter.models
    title = options.sd_model_checkpoint
    model = model_named(title, await models.cards()) if title else None
    card = await models.card(task, model)
    translated = translate(asked, options, model, card)
    request.scope["field_names"] = translated.names
    if any(module.changes for module in translated.modules):
        translated = await to_thread.run_sync(
            _preprocessed, translated, services, limiter=services.decoding
        )
    if isinstance(asked, ImageToImage) and len(asked.init_images) > 1:
        _check_number(asked, card)
        return await _queue_images(asked, translated, chosen, request, services)
    return await _queue_one(asked, translated, chosen, request, services)


def _preprocessed(translated: Translation, services: Services) -> Translation:
    """Return the request with its control images as the ControlNets read them."""
    controls, images = translated.fields["controls"], services.submitter.images
    assert isinstance(controls, list)
    changed = [
        {**control, "image": module.applied(f"controls.{i}.image", control["image"], images)}
        for i, (control, module) in enumerate(zip(controls, translated.modules, strict=True))
    ]
    return replace(translated, fields={**translated.fields, "controls": changed})


async def _queue_one(
    asked: Generation,
    translated: Translation,
    chosen: ChosenOptions,
    request: Request,
    services: Services,
) -> Queued:
    task, resolved = task_of(asked), list[GenerationRequest]()
    params = await parse_task(task, translated.fields, request, services)
    job = await submit(
        task,
        params,
        request,
        services,
        waits=True,
        on_resolved=resolved.append,
        options=chosen.expected,
    )
    [complete] = resolved
    return Queued([job], [(complete, complete.image_seed(i)) for i in range(complete.n)])


async def _queue_images(
    asked: ImageToImage,
    translated: Translation,
    chosen: ChosenOptions,
    request: Request,
    services: Services,
) -> Queued:
    """Queue a job for each image, or none: the initial images in turn, `n_iter` times."""
    task, user = task_of(asked), request.scope["user"]
    first = await parse_task(task, {**translated.fields, "n": 1}, request, services)
    each = [first] + [
        await _with_image(first, i, asked.init_images[i], request, services)
        for i in range(1, len(asked.init_images))
    ]
    jobs = each * asked.n_iter
    names = {f"images.{i}": f"init_images.{i % len(each)}" for i in range(len(jobs))}
    request.scope["field_names"] = {**translated.names, **names}
    webhook = webhook_target(None, request, services)
    key = request.headers.get(HEADER)
    sent = Sent(user, first.model_fields_set, first.seed, key, webhook, chosen.expected)
    found = await services.batch_submitter.submit_images(
        task, jobs, sent, services.watcher.subscribe
    )
    request.scope["limited_body"].release()
    request.scope["job"] = path_of(request, "get_job", job_id=found[0][0].id)
    return Queued([job for job, _ in found], [(complete, complete.seed) for _, complete in found])


async def _with_image(
    params: TaskRequest, index: int, image: str, request: Request, services: Services
) -> TaskRequest:
    """Return parameters with another initial image. Raises `InvalidRequest`."""
    name = f"init_images.{index}"
    names = {**request.scope["field_names"], "image": name, "image_url": name}
    request.scope["field_names"] = names
    given = await fetched(file_field("image", image), request, services)
    data = await to_thread.run_sync(decode_file, "image", given["image"], limiter=services.decoding)
    return params.model_copy(update={"image": data})


def _check_number(asked: ImageToImage, card: ModelCard) -> None:
    """Check the number of images against that which one request may ask for."""
    images = len(asked.init_images) * asked.n_iter
    if images > card.max_images:
        bound = f"at most {card.max_images}, over all iterations"
        raise InvalidRequest("init_images", images, bound, "out-of-range")
