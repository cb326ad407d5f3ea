"""Models, versions and deployments as Replicate's clients read them."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from protocol.request.tasks import Task
from service.dialects.replicate.input_schema import input_schema, openapi_schema
from service.dialects.replicate.names import version_id
from tests.service.conftest import ABLE, CARD, Running
from tests.service.dialects.replicate.asking import create, generated

VERSION = version_id(ABLE)


def get(service: Running, path: str, status: int = 200) -> Any:
    response = service.client.get(path)
    assert response.status_code == status, response.text
    return response.json()


def test_list_is_that_of_three_apis(replicate: Running) -> None:
    found = get(replicate, "/v1/models")
    assert [one["name"] for one in found["models"]] == ["tiny"]
    assert [one["id"] for one in found["data"]] == ["tiny"]
    assert (found["next"], found["previous"]) == (None, None)
    [listed] = found["results"]
    assert listed == {
        "url": f"{replicate.url}/v1/models/darkroom/tiny",
        "owner": "darkroom",
        "name": "tiny",
        "description": "",
        "visibility": "public",
        "run_count": 0,
    }
    assert get(replicate, "/v1/models/darkroom/tiny")["url"] == listed["url"]


def test_model_is_that_of_three_apis(replicate: Running) -> None:
    found = get(replicate, "/v1/models/any-owner/tiny")
    assert (found["id"], found["object"]) == ("any-owner/tiny", "model")
    assert (found["owner"], found["name"], found["visibility"]) == ("any-owner", "tiny", "public")
    assert (found["max_steps"], found["ready"]) == (50, True)
    assert found["latest_version"]["id"] == VERSION


def test_model_has_one_version(replicate: Running) -> None:
    page = get(replicate, "/v1/models/a/tiny/versions")
    version = get(replicate, f"/v1/models/a/tiny/versions/{VERSION}")
    assert page == {"previous": None, "next": None, "results": [version]}
    assert version.keys() == {"id", "created_at", "cog_version", "openapi_schema"}
    schemas = version["openapi_schema"]["components"]["schemas"]
    assert "x-cog-array-type" not in schemas["Output"]  # else the Python client iterates
    for path in ("a/nope", "a/nope/versions", "a/tiny/versions/nope"):
        assert get(replicate, f"/v1/models/{path}", 404)["title"] == "Unknown model"


def test_deployments_are_models(replicate: Running) -> None:
    page = get(replicate, "/v1/deployments")
    assert page["results"] == [get(replicate, "/v1/deployments/darkroom/tiny")]
    release = page["results"][0]["current_release"]
    assert (release["model"], release["version"]) == ("darkroom/tiny", VERSION)
    get(replicate, "/v1/deployments/a/nope", 404)


def test_defaults_of_the_input_schema_are_accepted(replicate: Running) -> None:
    """A client may send every field with its default."""
    properties = input_schema(ABLE)["properties"]
    sent = {name: field["default"] for name, field in properties.items() if "default" in field}
    assert {"width", "scheduler", "num_outputs"} <= sent.keys()
    _, request = generated(replicate, **sent)
    assert (request.width, request.steps, request.sampler) == (64, 4, "ddim")


@pytest.mark.parametrize(
    ("name", "beyond"),
    [("width", 264), ("num_inference_steps", 51), ("num_outputs", 5), ("guidance_scale", 20.5)],
)
def test_bounds_of_the_input_schema_are_those_of_the_model(
    replicate: Running, name: str, beyond: float
) -> None:
    field = input_schema(ABLE)["properties"][name]
    assert not Draft202012Validator(field).is_valid(beyond)
    assert create(replicate, {"prompt": "x", name: beyond}).status_code == 422
    assert Draft202012Validator(field).is_valid(field["maximum"])


def test_schema_has_the_inputs_that_the_model_takes() -> None:
    Draft202012Validator.check_schema(input_schema(ABLE))
    assert openapi_schema(CARD)["components"]["schemas"]["Input"]["required"] == ["prompt"]
    silent = CARD.model_copy(update={"max_prompt_tokens": 0, "tasks": (Task.UNCONDITIONAL,)})
    found = input_schema(silent)
    assert "required" not in found
    assert not {"prompt", "image", "mask"} & found["properties"].keys()
