# syntax=docker/dockerfile:1
# One file, one target per program:
#   docker build --target api .          the HTTP service, without torch
#   docker build --target worker .       a worker for the CPU
#   docker build --target worker-gpu .   a worker for NVIDIA: torch contains CUDA, the host has the driver
#
# Dependencies come before the source, so that a change of the source rebuilds only the last small
# layers. Every dependency is checked against the hashes of constraints.txt. Nothing runs as root, and
# the programs write to /images, /models and /tmp only.

FROM python:3.11.14-slim-bookworm AS base
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PIP_ROOT_USER_ACTION=ignore \
    HF_HOME=/models/hub XDG_CACHE_HOME=/models/cache XDG_DATA_HOME=/models
RUN groupadd --gid 10001 darkroom \
    && useradd --uid 10001 --gid darkroom --no-create-home --home-dir /tmp darkroom \
    && install -d -o darkroom -g darkroom /images /models
WORKDIR /app
COPY pyproject.toml constraints.txt ./
COPY .ci/requirements.py .ci/torch_build.py .ci/torch-cpu.sha256 .ci/
# A further index for pip, such as PyTorch's index of CPU builds (see .env.example).
ARG PIP_EXTRA_INDEX_URL
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /venv \
    && sed -n '/^pip==/,/[^\\]$/p' constraints.txt > /tmp/pip.txt \
    && pip install --require-hashes -r /tmp/pip.txt \
    && python .ci/requirements.py tracing provenance > /tmp/requirements.txt \
    && pip install -c constraints.txt -r /tmp/requirements.txt \
    && rm -r /tmp/*

FROM base AS api
COPY protocol protocol
COPY service service
COPY darkroom darkroom
COPY clients/python/darkroom_client darkroom_client
RUN python -m compileall -q protocol service darkroom darkroom_client
USER 10001:10001
ENV HOST=0.0.0.0 PORT=8000 OBJECT_STORE_URL=file:///images
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz')"]
CMD ["python", "-m", "darkroom", "api"]

# The common base of both workers. Their dependencies differ, and come before the source.
FROM base AS any-worker
ENV OBJECT_STORE_URL=file:///images \
    TRITON_CACHE_DIR=/models/cache/triton TORCHINDUCTOR_CACHE_DIR=/models/cache/inductor \
    DARKROOM_WORKER_METRICS_HOST=0.0.0.0 DARKROOM_WORKER_METRICS_PORT=8001
EXPOSE 8001
# A worker serves its metrics once its model is loaded and warm, which may take a while.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15m CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"DARKROOM_WORKER_METRICS_PORT\"]}/metrics')"]
CMD ["python", "-m", "darkroom", "worker"]

FROM any-worker AS worker
# The CPU build of torch if an index offers one; otherwise the build with CUDA.
RUN --mount=type=cache,target=/root/.cache/pip \
    python .ci/requirements.py worker > /tmp/requirements.txt \
    && python .ci/torch_build.py >> /tmp/requirements.txt \
    && pip install -c constraints.txt -r /tmp/requirements.txt \
    && rm -r /tmp/*
COPY protocol protocol
COPY models models
COPY worker worker
COPY darkroom darkroom
COPY clients/python/darkroom_client darkroom_client
RUN python -m compileall -q protocol models worker darkroom darkroom_client
USER 10001:10001

FROM any-worker AS worker-gpu
# Triton compiles a small launcher for each kernel on the machine that runs it.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/root/.cache/pip \
    python .ci/requirements.py gpu > /tmp/requirements.txt \
    && pip install -c constraints.txt -r /tmp/requirements.txt \
    && rm -r /tmp/*
COPY protocol protocol
COPY models models
COPY worker worker
COPY darkroom darkroom
COPY clients/python/darkroom_client darkroom_client
RUN python -m compileall -q protocol models worker darkroom darkroom_client
USER 10001:10001
