"""The bodies of requests for predictions."""

from typing import Literal

from pydantic import ConfigDict, Field, JsonValue, ValidationError

from protocol.queue.webhooks import WebhookEvent
from protocol.record import Bool, Text
from protocol.request.client_record import ClientRecord
from protocol.request.validation_errors import first_invalid_request
from service.schemas.body_parser import Fields

# The events for which a webhook may be called. Images are there at the end, all at once.
Event = Literal["start", "output", "logs", "completed"]
CALLS: dict[Event, tuple[WebhookEvent, ...]] = {
    "start": (WebhookEvent.START,),
    "output": (WebhookEvent.END,),
    "logs": (WebhookEvent.PROGRESS, WebhookEvent.END),
    "completed": (WebhookEvent.END,),
}
BY_DEFAULT: tuple[Event, ...] = ("output", "completed")


class PredictionRequest(ClientRecord):
    """A request for a prediction of a model that the path names. Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    input: dict[str, JsonValue] = Field(
        description="The input, as the schema of the model's version describes it.",
        examples=[{"prompt": "a slice of pizza", "seed": 7}],
    )
    webhook: Text | None = Field(
        default=None, description="An http or https address that is called with the prediction."
    )
    webhook_completed: Text | None = Field(
        default=None, description="As webhook, for the event completed alone."
    )
    webhook_events_filter: tuple[Event, ...] | None = Field(
        default=None, max_length=16, description="The events of calls: by default those at the end."
    )
    stream: Bool | None = Field(default=None, description="Without effect: each can be streamed.")

    @property
    def webhook_url(self) -> str | None:
        """Return the address to call; an empty one is none."""
        return self.webhook or self.webhook_completed or None

    @property
    def calls(self) -> tuple[WebhookEvent, ...]:
        """Return the moments at which the webhook is called."""
        asked = self.webhook_events_filter if self.webhook else None
        events = asked or BY_DEFAULT
        return tuple(dict.fromkeys(call for event in events for call in CALLS[event]))


class VersionRequest(PredictionRequest):
    """A request for a prediction of a version of a model."""

    version: Text = Field(
        description="The id of a version, or owner/name, or both as in owner/name:version."
    )


def parse_request(fields: Fields) -> PredictionRequest:
    """Return the fields of a request; the path, or `version`, names its model."""
    try:
        return PredictionRequest.model_validate(fields)
    except ValidationError as error:
        raise first_invalid_request(error) from error
