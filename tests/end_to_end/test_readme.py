"""Test of the first example of README.md."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

README = Path(__file__).parents[2] / "README.md"


def test_first_curl_writes_an_image(darkroom_url: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    [example, *_] = [block for block in blocks if block.startswith("curl")]
    script = example.replace("http://127.0.0.1:8000", darkroom_url)
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, check=True)
    with Image.open(tmp_path / "heart.png") as image:
        assert image.format == "PNG"
        assert "red heart" in str(image.info)
