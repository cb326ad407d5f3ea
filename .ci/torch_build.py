"""Print the requirement that makes pip install the CPU build of torch, if an index offers one.

Prints nothing on a machine with an NVIDIA driver or if no such build is offered; pip then installs
the build of its index. pip cannot choose by itself: among files of one version it prefers those
whose hash the index states, and files of a find-links folder have none stated. The hash is still
checked against constraints.txt, after the choice.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

CPU_BUILDS = Path(__file__).with_name("torch-cpu.sha256")


def offered_versions(package: str) -> list[str]:
    """Return the versions of `package` that pip finds in its configured indexes."""
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--json"]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    versions: list[str] = json.loads(answer.stdout)["versions"]
    return versions


if __name__ == "__main__" and shutil.which("nvidia-smi") is None:
    cpu_build = f"{CPU_BUILDS.read_text().split()[0]}+cpu"
    if cpu_build in offered_versions("torch"):
        print(f"torch=={cpu_build}")
