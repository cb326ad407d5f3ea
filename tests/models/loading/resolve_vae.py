"""Prints the folder of a first stage on the hub, which is fetched.

python -m tests.models.loading.resolve_vae owner/name
"""

import sys

from models.checkpoints.hub import fetch_component
from models.loading.replacements import resolve_network

if __name__ == "__main__":
    print(resolve_network(sys.argv[1], "vae", fetch_component))
