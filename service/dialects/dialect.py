"""The description of a dialect, by which the application adds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter

from protocol.queue.job import JobView
from protocol.queue.webhooks import Delivery
from service.routes.deps import Services
from service.schemas.error_format import ErrorFormat
from service.settings import DialectName

WebhookForm = Callable[[JobView, Delivery, Services], bytes]


@dataclass(frozen=True)
class Dialect:
    """An API of another system.

    `errors` has the form of its errors for each path prefix that belongs to it. `uncounted` are the
    paths of its POST requests that generate nothing. `webhook_form` returns the body of a webhook
    in its form, and may block. `description` is for the OpenAPI description, where its routes have
    the dialect's name as their tag.
    """

    name: DialectName
    description: str
    router: APIRouter
    errors: Mapping[str, ErrorFormat]
    uncounted: frozenset[str] = frozenset()
    webhook_form: WebhookForm | None = None
