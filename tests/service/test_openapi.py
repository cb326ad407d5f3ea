"""The OpenAPI description by itself: valid, complete, and with valid examples."""

import json
import re
from collections.abc import Iterator

import pytest
from fastapi.routing import iter_route_contexts
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator import validate as validate_description

from protocol.errors import DarkroomError
from service.app import create_app
from service.dialects.registry import DIALECTS
from service.openapi import EXAMPLES
from service.schemas.problem import MEDIA_TYPE
from service.schemas.problem_responses import CAUSES, ERRORS
from service.schemas.problems import STATUSES, problem_of
from tests.service.conftest import ABLE, Running, running, settings_for
from tests.service.description import (
    JSON,
    Description,
    description_of,
    operations,
    resolved,
    validator,
)
from tests.support.imports import ROOT

SETTINGS: dict[str, dict[str, object]] = {
    "default": {},
    "image URLs": {"image_urls": True},
    "keys": {"auth": "required", "public_metrics": True},
}
DESCRIPTION = description_of()
API_PAGE = (ROOT / "docs/api.md").read_text()
OPERATIONS = {f"{method} {path}": operation for method, path, operation in operations(DESCRIPTION)}


def responses(operation: Description) -> dict[str, Description]:
    """Return the responses of an operation, by status."""
    return {
        status: resolved(response, DESCRIPTION)
        for status, response in operation["responses"].items()
    }


def contents() -> Iterator[tuple[str, Description]]:
    """Yield every content of a body, with its schema and examples."""
    for name, operation in OPERATIONS.items():
        bodies = {"body": operation.get("requestBody", {"content": {}}), **responses(operation)}
        for part, body in bodies.items():
            for media_type, content in body.get("content", {}).items():
                yield f"{name} {part} {media_type}", content


@pytest.mark.parametrize("name", SETTINGS)
def test_the_description_is_valid_openapi_3_1(name: str) -> None:
    description = description_of(**SETTINGS[name])
    assert description["openapi"].startswith("3.1.")
    validate_description(description, cls=OpenAPIV31SpecValidator)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_schema_is_valid_json_schema(name: str) -> None:
    for schema in description_of(**SETTINGS[name])["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_example_is_valid() -> None:
    count = 0
    for name, content in contents():
        examples = [content["example"]] if "example" in content else []
        examples += [example["value"] for example in content.get("examples", {}).values()]
        for example in examples:
            errors = [*validator(content["schema"], DESCRIPTION).iter_errors(example)]
            assert not errors, (name, errors)
            count += 1
    for name, schema in DESCRIPTION["components"]["schemas"].items():
        for field, described_field in schema.get("properties", {}).items():
            for example in described_field.get("examples", ()):
                errors = [*validator(described_field, DESCRIPTION).iter_errors(example)]
                assert not errors, (name, field, errors)
                count += 1
    assert count > 100


def with_parameters(path: str, operation: Description) -> str:
    """Return a path with the example of each parameter in its place."""
    for parameter in operation.get("parameters", ()):
        if parameter.get("in") == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["schema"]["examples"][0]))
    return path


def test_every_example_request_is_accepted(redis_url: str) -> None:
    """The fake worker's model has the tasks of all models, and their smallest sizes."""
    with running(redis_url, ABLE, install_owners=("stabilityai",)) as service:
        for name, operation in OPERATIONS.items():
            content = operation.get("requestBody", {"content": {}})["content"]
            if JSON in content:
                path = with_parameters(name.partition(" ")[2], operation)
                response = service.client.post(path, json=content[JSON]["example"])
                assert response.status_code in (200, 201, 202), (name, response.text)


def test_every_content_has_a_schema() -> None:
    assert [name for name, content in contents() if not content.get("schema")] == []


def test_operations_are_named_by_their_functions() -> None:
    """Names of functions in generated clients, which must not change."""
    names = """
        txt2img img2img inpaint outpaint upscale unconditional class_conditional layout semantic
        get_job follow_job cancel_job get_image get_extra list_jobs retry_job
        submit_batch get_batch cancel_batch get_webhook_secret get_file_content
        list_models list_samplers load_model unload_model
        install_model list_installs get_install cancel_install
        read_recipe count_tokens get_key
        openai_generations openai_edits openai_variations get_model
        healthz readyz metrics
        openai_generations openai_edits openai_variations get_model
        webui_txt2img webui_img2img webui_extra_single_image webui_extra_batch_images webui_png_info
        webui_options set_webui_options webui_progress webui_interrupt webui_skip
        webui_task_progress webui_pending_tasks
        webui_sd_models webui_samplers webui_schedulers webui_upscalers webui_latent_upscale_modes
        webui_loras webui_embeddings webui_scripts webui_memory webui_cmd_flags webui_config
        webui_sd_vae webui_sd_modules webui_hypernetworks webui_face_restorers webui_extensions
        webui_realesrgan_models webui_prompt_styles webui_script_info
        refresh_webui_checkpoints refresh_webui_loras refresh_webui_vae refresh_webui_embeddings
        unload_webui_checkpoint reload_webui_checkpoint
        controlnet_version controlnet_model_list controlnet_module_list controlnet_control_types
        controlnet_settings controlnet_detect controlnet_render_openpose_json
        stability_engines stability_account stability_balance
        stability_text_to_image stability_image_to_image stability_masking stability_upscale
        stability_core stability_ultra stability_sd3
        stability_inpaint stability_outpaint stability_erase
        stability_upscale_fast stability_upscale_conservative stability_upscale_creative
        stability_result stability_creative_result
        fal_run fal_run_task fal_stream fal_submit fal_submit_task fal_status fal_status_stream
        fal_result fal_cancel fal_proxy_get fal_proxy_post fal_proxy_put
        hugging_face_model hugging_face_model_without_owner
        hugging_face_router_model hugging_face_router_model_without_owner
        create_prediction create_model_prediction create_deployment_prediction
        list_predictions get_prediction cancel_prediction stream_prediction
        upload_file list_files get_file delete_file
        get_owned_model list_model_versions get_model_version list_deployments get_deployment
        get_default_webhook_secret
        comfy_prompt comfy_queue_status comfy_queue comfy_delete_queued comfy_interrupt
        comfy_history comfy_history_item comfy_delete_history comfy_view
        comfy_upload_image comfy_upload_mask comfy_object_info comfy_node_info
        comfy_model_folders comfy_models comfy_embeddings comfy_extensions comfy_features
        comfy_system_stats comfy_free
    """
    assert {operation["operationId"] for operation in OPERATIONS.values()} == set(names.split())


def test_every_route_of_the_api_is_described() -> None:
    """The pages and the description itself are not part of the API.

    The path of a file may also end in its format. Those of ComfyUI are the same below /api.
    """
    app = create_app(settings_for("redis://unused"))
    found = (str(route.path) for route in iter_route_contexts(app.routes))
    paths = {path if path == "/openapi.json" else re.sub(r"\.\w+$", "", path) for path in found}
    paths -= {f"/api{path}" for path in paths}
    paths -= {"/v1/jobs/{job_id}/ws", "/ws"}  # OpenAPI has no WebSockets
    assert paths == DESCRIPTION["paths"].keys() | {
        "/",
        "/docs",
        "/openapi.json",
        "/pages/{name:path}",
    }


def test_every_operation_has_a_described_tag() -> None:
    tags = {tag["name"] for tag in DESCRIPTION["tags"] if tag["description"]}
    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} == tags


def media_type_of_errors(path: str) -> str:
    """Return the media type of errors: that of problems, except for routes of dialects."""
    forms = [
        form
        for dialect in DIALECTS.values()
        for prefix, form in dialect.errors.items()
        if f"{path}/".startswith(f"{prefix}/")
    ]
    return forms[0].media_type if forms else MEDIA_TYPE


def test_every_error_response_has_the_form_of_its_api() -> None:
    for name, operation in OPERATIONS.items():
        for status, response in responses(operation).items():
            assert "X-Request-Id" in response["headers"]
            if status >= "400":
                (media_type,) = response["content"]
                assert media_type == media_type_of_errors(name.split()[1]), (name, status)


def test_every_problem_has_an_example() -> None:
    """A new error needs one in `service.schemas.problem_responses`."""
    assert {type(error) for error in ERRORS} == STATUSES.keys()


def test_every_status_is_described() -> None:
    assert {int(status) for status, _ in STATUSES.values()} < CAUSES.keys()


def test_header_fields_of_problems() -> None:
    components = DESCRIPTION["components"]["responses"]
    assert "Retry-After" in components["Problem429"]["headers"]
    assert "Retry-After" in components["Problem503"]["headers"]
    assert "WWW-Authenticate" in components["Problem401"]["headers"]
    assert "Allow" in components["Problem405"]["headers"]
    assert "Location" in components["Problem504"]["headers"]


def test_keys_are_described_as_they_are_needed() -> None:
    optional, needed = DESCRIPTION["security"], description_of(**SETTINGS["keys"])["security"]
    assert {} in optional
    assert {} not in needed
    assert [next(iter(one)) for one in needed] == ["bearer", "key"]
    open_routes = {
        f"{method} {path}"
        for method, path, operation in operations(description_of(**SETTINGS["keys"]))
        if "security" in operation
    }
    assert open_routes == {"GET /healthz", "GET /readyz", "GET /metrics"}
    assert "security" not in DESCRIPTION["paths"]["/metrics"]["get"]


def test_bodies_of_every_accepted_media_type(service: Running) -> None:
    """A media type that is not described is refused, and the error names those that are."""
    described_types = DESCRIPTION["paths"]["/v1/txt2img"]["post"]["requestBody"]["content"]
    response = service.client.post("/v1/txt2img", content=b"x", headers={"Content-Type": "a/b"})
    assert response.status_code == 415
    assert all(media_type in response.json()["bound"] for media_type in described_types)
    for media_type in described_types:
        header = {"Content-Type": f"{media_type}; boundary=b"}
        response = service.client.post("/v1/txt2img", content=b"x", headers=header)
        assert response.status_code == 400, media_type


def test_each_task_has_its_own_fields() -> None:
    """A field of another task may only be left empty."""
    schemas = DESCRIPTION["components"]["schemas"]
    upscale, txt2img = schemas["UpscaleRequest"], schemas["TextToImageRequest"]
    assert {"image", "steps", "seed"} <= upscale["properties"].keys()
    for name in ("width", "strength", "class_id", "boxes", "depth_map"):
        assert upscale["properties"][name]["description"] == "Not for this task."
    assert txt2img["required"] == ["prompt"]
    for name in ("image", "mask"):
        assert txt2img["properties"][name]["description"] == "Not for this task."
    assert schemas["LayoutRequest"]["required"] == ["boxes"]


def test_forms_have_files_and_nothing_is_null() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    form = schemas["InpaintForm"]
    assert form["required"] == schemas["InpaintRequest"]["required"] == ["image"]
    for name in ("image", "mask", "control_image_0"):
        assert form["properties"][name]["format"] == "binary"
    assert form["properties"]["seed"]["type"] == "integer"
    assert form["properties"]["loras"]["contentMediaType"] == JSON
    for name, schema in schemas.items():
        if name.endswith("Form"):
            assert "null" not in str(schema), name


def test_the_data_of_every_event_is_a_job(service: Running) -> None:
    body, prefer = {"prompt": "x", "previews": True}, {"Prefer": "respond-async"}
    job = service.client.post("/v1/txt2img", json=body, headers=prefer).json()
    text = service.client.get(f"/v1/jobs/{job['id']}/events").text
    events = re.findall(r"^data: (.*)$", text, re.MULTILINE)
    assert json.loads(events[-1])["state"] == "finished"
    for event in events:
        validator({"$ref": "#/components/schemas/JobResponse"}, DESCRIPTION).validate(
            json.loads(event)
        )


def test_each_image_may_be_given_by_its_address_where_the_service_takes_them() -> None:
    description = description_of(**SETTINGS["image URLs"])
    address = "https://example.org/a.png"
    inpaint = validator({"$ref": "#/components/schemas/InpaintRequest"}, description)
    for image in ({"image": "YQ=="}, {"image_url": address}):
        for mask in ({"mask": "YQ=="}, {"mask_url": address}):
            assert inpaint.is_valid({"prompt": "x", **image, **mask})
            assert not inpaint.is_valid({"prompt": "x", **image})
            assert not inpaint.is_valid({"prompt": "x", **mask})
            assert not inpaint.is_valid({"image": "YQ==", "image_url": address, **mask})
    txt2img = validator({"$ref": "#/components/schemas/TextToImageRequest"}, description)
    assert not txt2img.is_valid({"prompt": "x", "image_url": address})
    assert not validator({"$ref": "#/components/schemas/InpaintRequest"}, DESCRIPTION).is_valid(
        {"image_url": address, "mask": "YQ=="}
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_problems_match_their_schema(error: DarkroomError) -> None:
    problem = problem_of(error, "id", "/v1/jobs/x").model_dump(mode="json", exclude_none=True)
    validator({"$ref": "#/components/schemas/Problem"}, DESCRIPTION).validate(problem)


def test_the_page_lists_every_operation() -> None:
    listed = re.findall(
        r"^\| `(GET|POST|DELETE) (/(?:v1/|healthz|readyz|metrics)\S*)`", API_PAGE, re.M
    )
    named = {(method, re.sub(r"\{id\}", "{job_id}", path)) for method, path in listed}
    assert named == {
        (method, path)
        for method, path, operation in operations(DESCRIPTION)
        if not DIALECTS.keys() & set(operation["tags"])
    }


def test_examples_of_the_documents_match_a_schema() -> None:
    """An ellipsis stands for a file or for the rest of a text."""
    text = API_PAGE + (ROOT / "README.md").read_text()
    examples = [
        json.loads(found.replace(" …,", ' "…",')) for found in re.findall(r"\{\"[^{}]*\}", text)
    ]
    schemas = [
        validator(schema, DESCRIPTION)
        for name, schema in DESCRIPTION["components"]["schemas"].items()
        if not name.endswith("Form") and schema.get("properties")
    ]
    assert len(examples) >= 6
    for example in examples:
        assert any(schema.is_valid(example) for schema in schemas), example


def test_every_route_has_examples() -> None:
    """Of its JSON body, and of what it answers in JSON; the other contents are files."""
    missing = [
        f"{name} {part}"
        for name, operation in OPERATIONS.items()
        for part, examples in {
            "body": [operation.get("requestBody", {}).get("content", {}).get(JSON, {"example": 0})],
            "response": [
                response.get("content", {}).get(JSON, {"example": 0})
                for status, response in responses(operation).items()
                if status[0] == "2"
            ],
        }.items()
        if not any(EXAMPLES & content.keys() for content in examples)
    ]
    assert missing == []


def test_every_parameter_of_a_path_has_valid_examples() -> None:
    """A choice among a few words needs none."""
    checked = 0
    for name, operation in OPERATIONS.items():
        for parameter in operation.get("parameters", ()):
            if parameter.get("in") != "path" or "enum" in resolved(
                parameter["schema"], DESCRIPTION
            ):
                continue
            assert parameter["schema"].get("examples"), (name, parameter["name"])
            for example in parameter["schema"]["examples"]:
                assert validator(parameter["schema"], DESCRIPTION).is_valid(example), name
                checked += 1
    assert checked > 20


def test_every_dialect_has_one_tag() -> None:
    tags = [tag["name"] for tag in DESCRIPTION["tags"]]
    assert len(set(tags)) == len(tags)
    assert all(len(operation["tags"]) == 1 for operation in OPERATIONS.values())
    assert {operation["tags"][0] for operation in OPERATIONS.values()} == set(tags)
    assert set(DIALECTS) <= set(tags)
