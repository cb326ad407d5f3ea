# syntax=docker/dockerfile:1
# One file, one target per program:
#   docker build --target api -t darkroom-api .
#   docker build --target worker -t darkroom-worker .

FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/app PATH=/venv/bin:$PATH
RUN useradd --create-home darkroom && install -d -o darkroom /pictures
WORKDIR /app
COPY pyproject.toml constraints.txt ./
COPY .ci/requirements.py .ci/
RUN python -m venv /venv \
    && sed -n '/^pip==/,/[^\\]$/p' constraints.txt > /tmp/pip.txt \
    && pip install --no-cache-dir --require-hashes -r /tmp/pip.txt

FROM base AS api
RUN python .ci/requirements.py > /tmp/requirements.txt \
    && pip install --no-cache-dir -c constraints.txt -r /tmp/requirements.txt
COPY protocol protocol
COPY service service
COPY darkroom darkroom
USER darkroom
ENV HOST=0.0.0.0 PORT=8000 OBJECT_STORE_URL=file:///pictures
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz')"]
CMD ["python", "-m", "darkroom", "api"]

# torch brings its CUDA libraries along; the host gives the driver.
FROM base AS worker
RUN python .ci/requirements.py worker gpu > /tmp/requirements.txt \
    && pip install --no-cache-dir -c constraints.txt -r /tmp/requirements.txt
COPY protocol protocol
COPY models models
COPY worker worker
COPY darkroom darkroom
USER darkroom
ENV OBJECT_STORE_URL=file:///pictures
CMD ["python", "-m", "darkroom", "worker"]
