"""Installs by request: for admins, from the owners that the operator allows."""

from collections.abc import Iterator

import pytest

from protocol.registry.installs import MOST_OPEN, Installs, InstallState, new_token
from tests.service.conftest import Running, running
from tests.service.keys import ADMIN_KEY, key_for
from tests.support.redis_server import RedisServer

ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
PATH = "/v1/models"


@pytest.fixture(scope="module")
def secured() -> Iterator[Running]:
    changed = {"admin_key": ADMIN_KEY, "install_owners": "owner, Other-1"}
    with (
        RedisServer() as server,
        running(server.url, auth="required", **changed) as service,
    ):
        yield service


def refusal(secured: Running, **fields: object) -> tuple[int, str, str]:
    response = secured.client.post(PATH, json=fields, headers=ADMIN)
    problem = response.json()
    return response.status_code, problem.get("field", ""), problem["detail"]


def test_install_is_queued_and_followed(secured: Running) -> None:
    fields = {"source": "owner/tiny", "name": "mine", "kind": "model"}
    response = secured.client.post(PATH, json=fields, headers=ADMIN)
    assert response.status_code == 202
    install = response.json()
    assert {name: install[name] for name in fields} == fields
    assert (install["state"], install["share"]) == ("queued", 0)
    again = secured.client.post(PATH, json=fields, headers=ADMIN).json()
    assert again == install  # the same request, which has not ended
    installs = Installs(secured.worker.redis)
    token = new_token()
    claimed = installs.claim(token, 60)
    assert claimed is not None
    assert installs.report(claimed.id, token, 60, 0.25, "unet")
    location = response.headers["Location"]
    assert location == f"{PATH}/installs/{install['id']}"
    found = secured.client.get(location, headers=ADMIN).json()
    assert found == install | {"state": "running", "share": 0.25, "part": "unet"}
    assert installs.finish(claimed.id, token, "mine", "model")
    listed = secured.client.get(f"{PATH}/installs", headers=ADMIN).json()["installs"]
    assert [(one["id"], one["state"]) for one in listed] == [(install["id"], "finished")]


def test_install_is_cancelled(secured: Running) -> None:
    queued = secured.client.post(PATH, json={"source": "owner/unwanted"}, headers=ADMIN).json()
    path = f"{PATH}/installs/{queued['id']}"
    assert secured.client.delete(path, headers=key_for(secured)).status_code == 403
    for _ in range(2):
        response = secured.client.delete(path, headers=ADMIN)
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    response = secured.client.delete(f"{PATH}/installs/{'0' * 16}", headers=ADMIN)
    assert (response.status_code, response.json()["title"]) == (404, "Unknown install")


@pytest.mark.parametrize(
    "source",
    [
        *("owner", "/owner/tiny", "owner/tiny/unet", "owner//tiny", "owner/", "/tiny", "./tiny"),
        *(
            "../tiny",
            "owner/..",
            "owner/a..b",
            "owner/a--b",
            "~/tiny",
            "owner\\tiny",
            "owner/ti ny",
        ),
        *("https://hub.example/owner/tiny", "file:///owner", "owner/tiny\n", "owner/tiny?x", ""),
        *("öwner/tiny", "owner/tiny%2f..", "owner/" + "x" * 97, None, 5, ["owner/tiny"]),
    ],
)
def test_anything_but_a_hub_id_is_refused(secured: Running, source: object) -> None:
    before = secured.client.get(f"{PATH}/installs", headers=ADMIN).json()
    status, field, _ = refusal(secured, source=source)
    assert (status, field) == (422, "source")
    assert secured.client.get(f"{PATH}/installs", headers=ADMIN).json() == before


@pytest.mark.parametrize("owner", ["stranger", "Owner", "owner2", "owne"])
def test_other_owner_is_refused(secured: Running, owner: str) -> None:
    status, field, detail = refusal(secured, source=f"{owner}/tiny")
    assert (status, field) == (422, "source")
    assert "owner, Other-1" in detail


def test_wrong_name_kind_and_field_are_refused(secured: Running) -> None:
    status, field, detail = refusal(secured, source="owner/tiny", name="a/up")
    assert (status, field) == (422, "name")
    assert detail == 'name is "a/up", but must be free of the character U+002F'
    assert refusal(secured, source="owner/tiny", kind="pickle")[:2] == (422, "kind")
    assert refusal(secured, source="owner/tiny", path="/etc")[:2] == (422, "path")


def test_others_than_admins_are_refused(secured: Running) -> None:
    headers = key_for(secured)
    for response in (
        secured.client.post(PATH, json={"source": "owner/tiny"}, headers=headers),
        secured.client.get(f"{PATH}/installs", headers=headers),
        secured.client.get(f"{PATH}/installs/{'0' * 16}", headers=headers),
    ):
        assert (response.status_code, response.json()["title"]) == (403, "Forbidden")


def test_unknown_install(secured: Running) -> None:
    response = secured.client.get(f"{PATH}/installs/{'0' * 16}", headers=ADMIN)
    assert (response.status_code, response.json()["title"]) == (404, "Unknown install")


def test_off_by_default(service: Running) -> None:
    for response in (
        service.client.post(PATH, json={"source": "owner/tiny"}),
        service.client.get(f"{PATH}/installs"),
    ):
        assert response.status_code == 403
        assert "DARKROOM_INSTALL_OWNERS" in response.json()["detail"]
    assert Installs(service.worker.redis).all() == []


def test_waiting_installs_are_bounded(redis_url: str) -> None:
    with running(redis_url, install_owners=("owner",)) as service:
        for number in range(MOST_OPEN):
            response = service.client.post(PATH, json={"source": f"owner/{number}"})
            assert response.status_code == 202
        refused = service.client.post(PATH, json={"source": "owner/more"})
        assert (refused.status_code, refused.json()["title"]) == (429, "Too many installs")
        assert "Retry-After" in refused.headers
        states = {install.state for install in Installs(service.worker.redis).all()}
        assert states == {InstallState.QUEUED}
