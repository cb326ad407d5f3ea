"""Print the requirement that makes pip take torch's CPU build, where pip is offered one.

Prints nothing on a machine with an NVIDIA driver, or where no such build is offered: then the
index's own build comes. The choice cannot be left to pip: among files of one version it prefers
those whose hash the index states, and a file of a find-links folder comes without a statement.
Its hash is checked against constraints.txt all the same, after the choice.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

CPU_BUILDS = Path(__file__).with_name("torch-cpu.sha256")


def offered_versions(package: str) -> list[str]:
    """Versions of `package` that pip finds in the places it is configured for."""
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--json"]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    versions: list[str] = json.loads(answer.stdout)["versions"]
    return versions


if __name__ == "__main__" and shutil.which("nvidia-smi") is None:
    cpu_build = f"{CPU_BUILDS.read_text().split()[0]}+cpu"
    if cpu_build in offered_versions("torch"):
        print(f"torch=={cpu_build}")
