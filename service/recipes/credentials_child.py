"""Program that verifies the content credentials of one image: the file on stdin, JSON on stdout.

It is a process of its own because the file is a client's: the library parses what it likes within
the memory and the seconds of the arguments, and can neither write files nor, by its settings,
connect to a host. It imports nothing of ours, so that it starts quickly.
"""

import io
import json
import resource
import sys
from pathlib import Path
from typing import Any

import c2pa

OFFLINE: dict[str, Any] = {
    "version": 1,
    "core": {"allowed_network_hosts": []},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
UNTRUSTED = "signingCredential.untrusted"  # no trust list is used
LONGEST, MOST = 200, 10  # characters of a text, failures


def main(max_bytes: int, max_s: int, kind: str) -> None:
    """Write what the active manifest says, and the codes of what is wrong with it."""
    data = sys.stdin.buffer.read()
    _limit(max_bytes, max_s)
    try:
        with (
            c2pa.Context.from_dict(OFFLINE) as context,
            c2pa.Reader(kind, io.BytesIO(data), context=context) as reader,
        ):
            found = _report(reader)
    except c2pa.C2paError as error:
        found = {"state": "Invalid", "failures": [_text(type(error).__name__.lstrip("_"))]}
    print(json.dumps(found))


def _limit(max_bytes: int, max_s: int) -> None:
    """Limit memory and processor time from now on; the first where the system tells the present."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + max_bytes, used + max_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (max_s, max_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _report(reader: c2pa.Reader) -> dict[str, Any]:
    manifest = reader.get_active_manifest() or {}
    results = reader.get_validation_results() or {}
    signature = manifest.get("signature_info") or {}
    generators = manifest.get("claim_generator_info") or [{}]
    failures = [one.get("code") for one in results.get("activeManifest", {}).get("failure", [])]
    return {
        "state": reader.get_validation_state(),
        "issuer": _text(signature.get("issuer")),
        "generator": _text(" ".join(filter(None, map(generators[0].get, ("name", "version"))))),
        "digital_source_type": _text(_source(manifest)),
        "failures": [_text(code) for code in failures if code != UNTRUSTED][:MOST],
    }


def _source(manifest: dict[str, Any]) -> Any:
    """Return the digital source type of the last action that has one."""
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if str(assertion.get("label")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    return next(
        (one["digitalSourceType"] for one in reversed(actions) if "digitalSourceType" in one), ""
    )


def _text(value: Any) -> str:
    return str(value or "")[:LONGEST]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
