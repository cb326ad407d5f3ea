"""Actions of the Python package `replicate`."""

import base64
import io
import json
from typing import Any

from replicate.client import Client
from replicate.pagination import paginate
from replicate.webhook import Webhooks, WebhookSigningSecret

from tests.clients.python.lines import serve

Fields = dict[str, Any]


def client(url: str, api_key: str) -> Client:
    return Client(api_token=api_key, base_url=url)


def shown(found: Any) -> Any:
    """Return an object of the package as JSON has it."""
    return json.loads(found.json())


def file(image: str) -> io.BytesIO:
    """Return an open file, which the package uploads before it is named as an input."""
    opened = io.BytesIO(base64.b64decode(image))
    opened.name = "image.png"
    return opened


def inputs(sent: Fields, images: Fields) -> Fields:
    return {**sent, **{name: file(image) for name, image in images.items()}}


def run(url: str, api_key: str, model: str, input: Fields, **params: Any) -> list[str]:
    images = params.pop("images", {})
    output = client(url, api_key).run(model, input=inputs(input, images), **params)
    return [str(image) for image in output]


def create(url: str, api_key: str, model: str, input: Fields, **params: Any) -> Fields:
    """Create a prediction without waiting for it."""
    models = client(url, api_key).models
    return shown(models.predictions.create(model=model, input=input, **params))


def create_and_wait(url: str, api_key: str, model: str, input: Fields) -> Fields:
    created = client(url, api_key).models.predictions.create(model=model, input=input)
    first = created.status
    created.wait()
    progress = created.progress
    assert progress is not None
    return {"first": first, "progress": [progress.current, progress.total], **shown(created)}


def create_version(url: str, api_key: str, version: str, input: Fields) -> Fields:
    predictions = client(url, api_key).predictions
    return shown(predictions.create(version=version, input=input, wait=True))


def deploy(url: str, api_key: str, model: str, input: Fields) -> Fields:
    deployment = client(url, api_key).deployments.get(model)
    return shown(deployment.predictions.create(input=input, wait=True))


def cancel(url: str, api_key: str, model: str, input: Fields) -> Fields:
    created = client(url, api_key).models.predictions.create(model=model, input=input)
    created.cancel()
    created.reload()
    return shown(created)


def predictions(url: str, api_key: str) -> list[str]:
    pages = paginate(client(url, api_key).predictions.list)
    return [prediction.id for page in pages for prediction in page]


def stream(url: str, api_key: str, model: str, input: Fields) -> list[list[str]]:
    created = client(url, api_key).models.predictions.create(model=model, input=input)
    return [[event.event.value, str(event.data)] for event in created.stream()]


def models(url: str, api_key: str) -> list[str]:
    return [model.id for model in client(url, api_key).models.list()]


def model(url: str, api_key: str, name: str) -> Fields:
    found = client(url, api_key).models.get(name)
    [version] = found.versions.list()
    assert found.latest_version is not None
    return {**shown(found), "version": shown(found.versions.get(version.id))}


def files(url: str, api_key: str, image: str) -> Fields:
    """Upload a file, look it up, list it and delete it."""
    all_files = client(url, api_key).files
    created = all_files.create(file(image), metadata={"a": 1})
    same = all_files.get(created.id) == created and created in all_files.list()
    return {**shown(created), "same": same, "deleted": all_files.delete(created.id)}


def validate(url: str, api_key: str, headers: dict[str, str], body: str) -> bool:
    """Validate a call with the package's validator, and with the secret of the key."""
    secret = client(url, api_key).webhooks.default.secret()
    Webhooks.validate(headers=headers, body=body, secret=secret, tolerance=3600)
    wrong = WebhookSigningSecret(key="whsec_" + base64.b64encode(bytes(32)).decode())
    try:
        Webhooks.validate(headers=headers, body=body, secret=wrong)
    except ValueError:
        return True
    return False


if __name__ == "__main__":
    actions = (run, create, create_and_wait, create_version, deploy, cancel, predictions, stream)
    serve({action.__name__: action for action in (*actions, models, model, files, validate)})
