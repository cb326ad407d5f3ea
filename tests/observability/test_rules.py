"""Tests of the alert rules: valid, documented, silent without a fault, and firing on a fault.

Prometheus' own promtool checks them with invented series; `test_alerts` makes real faults.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.observability.prometheus import PROMTOOL
from tests.observability.rules import CONFIG, ROOT, RULES, alerts

RUNBOOK = (ROOT / "docs/runbook.md").read_text("utf-8")
LATE = "25m"  # by then every `for` is over
Series = dict[str, str]

API, WORKER = 'job="api",instance="a:8000"', 'job="worker",instance="w:8001"'
JOB_ROUTE = f'{API},route="/v1/jobs/{{job_id}}"'

# A working stack, one value a minute. The series of a fault replace those of the same name.
HEALTHY: Series = {
    f"up{{{API}}}": "1x30",
    f"up{{{WORKER}}}": "1x30",
    f'darkroom_http_requests_total{{{API},route="/v1/txt2img",status="200"}}': "0+60x30",
    f'darkroom_http_requests_total{{{API},route="/v1/txt2img",status="500"}}': "0x30",
    f'darkroom_http_request_seconds_bucket{{{JOB_ROUTE},le="0.1"}}': "0+60x30",
    f'darkroom_http_request_seconds_bucket{{{JOB_ROUTE},le="5"}}': "0+60x30",
    f'darkroom_http_request_seconds_bucket{{{JOB_ROUTE},le="+Inf"}}': "0+60x30",
    f'darkroom_event_loop_lag_seconds_bucket{{{API},le="0.01"}}': "0+120x30",
    f'darkroom_event_loop_lag_seconds_bucket{{{API},le="1"}}': "0+120x30",
    f'darkroom_event_loop_lag_seconds_bucket{{{API},le="+Inf"}}': "0+120x30",
    f'darkroom_http_problems_total{{{API},problem="queue-full"}}': "0x30",
    f'darkroom_workers{{{API},model="m",state="ready"}}': "1x30",
    f'darkroom_workers{{{API},model="m",state="setup_failed"}}': "0x30",
    f'darkroom_queue_depth{{{API},model="m",priority="normal",state="queued"}}': "2x30",
    f'darkroom_queue_oldest_seconds{{{API},model="m",priority="normal"}}': "5x30",
    f'darkroom_worker_retries_total{{{WORKER},reason="worker-died"}}': "0x30",
    f'darkroom_worker_retries_total{{{WORKER},reason="engine-failed"}}': "0x30",
    f"process_start_time_seconds{{{WORKER}}}": "1000x30",
    f"darkroom_worker_held_jobs{{{WORKER}}}": "3x30",
    f"darkroom_worker_step_seconds_count{{{WORKER}}}": "0+600x30",
    f"darkroom_worker_images_total{{{WORKER}}}": "0+60x30",
    f'darkroom_worker_jobs_total{{{WORKER},state="finished"}}': "0+60x30",
    f'darkroom_worker_jobs_total{{{WORKER},state="failed"}}': "0+1x30",
    f'darkroom_store_errors_total{{{WORKER},operation="put"}}': "0x30",
    f"darkroom_gpu_memory_used_bytes{{{WORKER}}}": "80x30",
    f"darkroom_gpu_memory_total_bytes{{{WORKER}}}": "100x30",
    f"darkroom_redis_up{{{API}}}": "1x30",
    f'darkroom_redis_errors_total{{{API},error="TimeoutError"}}': "0x30",
    f'darkroom_redis_seconds_bucket{{{API},le="0.01"}}': "0+600x30",
    f'darkroom_redis_seconds_bucket{{{API},le="1"}}': "0+600x30",
    f'darkroom_redis_seconds_bucket{{{API},le="+Inf"}}': "0+600x30",
    f"darkroom_redis_memory_used_bytes{{{API}}}": "50x30",
    f"darkroom_redis_memory_max_bytes{{{API}}}": "100x30",
}

# Alert -> series of its fault.
FAULTS: dict[str, Series] = {
    "DarkroomApiDown": {f"up{{{API}}}": "0x30"},
    "DarkroomApiErrors": {
        f'darkroom_http_requests_total{{{API},route="/v1/txt2img",status="500"}}': "0+6x30"
    },
    "DarkroomApiSlow": {f'darkroom_http_request_seconds_bucket{{{JOB_ROUTE},le="0.1"}}': "0+30x30"},
    "DarkroomEventLoopLag": {
        f'darkroom_event_loop_lag_seconds_bucket{{{API},le="0.01"}}': "0+60x30"
    },
    "DarkroomNoReadyWorker": {f'darkroom_workers{{{API},model="m",state="ready"}}': "0x30"},
    "DarkroomWorkerSetupFailed": {
        f'darkroom_workers{{{API},model="m",state="setup_failed"}}': "1x30"
    },
    "DarkroomQueueBacklog": {
        f'darkroom_queue_depth{{{API},model="m",priority="normal",state="queued"}}': "30+5x30"
    },
    "DarkroomQueueFull": {f'darkroom_http_problems_total{{{API},problem="queue-full"}}': "0+1x30"},
    "DarkroomJobWaitsLong": {
        f'darkroom_queue_oldest_seconds{{{API},model="m",priority="normal"}}': "0+60x30"
    },
    "DarkroomWorkerNotScraped": {f"up{{{WORKER}}}": "0x30"},
    "DarkroomWorkerDied": {
        f'darkroom_worker_retries_total{{{WORKER},reason="worker-died"}}': "0x20 1x10"
    },
    "DarkroomWorkerRestarts": {
        f"process_start_time_seconds{{{WORKER}}}": "1000x18 1001 1002 1003x10"
    },
    "DarkroomWorkerStuck": {
        f"darkroom_worker_step_seconds_count{{{WORKER}}}": "600x30",
        f"darkroom_worker_images_total{{{WORKER}}}": "60x30",
    },
    "DarkroomEngineFails": {
        f'darkroom_worker_retries_total{{{WORKER},reason="engine-failed"}}': "0x20 2x10"
    },
    "DarkroomJobsFail": {f'darkroom_worker_jobs_total{{{WORKER},state="failed"}}': "0+6x30"},
    "DarkroomStoreErrors": {f'darkroom_store_errors_total{{{WORKER},operation="put"}}': "0+1x30"},
    "DarkroomGpuMemory": {f"darkroom_gpu_memory_used_bytes{{{WORKER}}}": "99x30"},
    "DarkroomRedisDown": {f"darkroom_redis_up{{{API}}}": "0x30"},
    "DarkroomRedisErrors": {f'darkroom_redis_errors_total{{{API},error="TimeoutError"}}': "0+1x30"},
    "DarkroomRedisSlow": {f'darkroom_redis_seconds_bucket{{{API},le="0.01"}}': "0+300x30"},
    "DarkroomRedisMemory": {f"darkroom_redis_memory_used_bytes{{{API}}}": "90x30"},
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)


def firing(at: str, *names: str) -> dict[str, object]:
    """Return a check for promtool: exactly the alerts `names` fire at the time `at`."""
    return {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": at,
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names],
    }


def scenario(changed: Series, *checks: dict[str, object]) -> dict[str, object]:
    series = [{"series": name, "values": values} for name, values in (HEALTHY | changed).items()]
    return {"interval": "1m", "input_series": series, "promql_expr_test": list(checks)}


@pytest.mark.skipif(PROMTOOL is None, reason="Debian's package prometheus is not installed")
class TestByPromtool:
    def test_configuration_and_rules_are_valid(self) -> None:
        for what, file in (("config", CONFIG), ("rules", RULES)):
            checked = promtool("check", what, str(file))
            assert checked.returncode == 0, checked.stdout + checked.stderr

    def test_each_fault_fires_only_its_alert(self, tmp_path: Path) -> None:
        scenarios = [scenario({}, firing("1m"), firing("10m"), firing(LATE))]
        for name, changed in FAULTS.items():
            delayed = "for" in alerts()[name]
            early = [firing("0m")] if delayed else []
            scenarios.append(scenario(changed, *early, firing(LATE, name)))
        file = tmp_path / "tests.yml"
        tests = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": scenarios}
        file.write_text(yaml.safe_dump(tests))
        tested = promtool("test", "rules", str(file))
        assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_has_a_fault() -> None:
    assert FAULTS.keys() == alerts().keys()


@pytest.mark.parametrize("name", alerts())
def test_each_alert_has_a_runbook_entry(name: str) -> None:
    annotations = alerts()[name]["annotations"]
    page, _, anchor = annotations["runbook"].partition("#")
    assert (ROOT / page).is_file()
    assert anchor == name.lower()  # Markdown's anchor of the heading
    [entry] = re.findall(rf"^### {name}\n((?:(?!^#).*\n)+)", RUNBOOK, re.MULTILINE)
    assert len(entry.split()) > 10
    assert annotations["summary"]


def test_runbook_has_no_removed_alerts() -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)) == alerts().keys()
