# The server with the English recogniser: no torch, no compiler in the image that runs.
#
#     docker build -t asr .
#     docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp asr

FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY asr asr
RUN python -m venv /opt/asr && /opt/asr/bin/pip install --no-cache-dir '.[serve,media]'

FROM python:3.12-slim
COPY --from=build /opt/asr /opt/asr
ENV PATH=/opt/asr/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65534:65534
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Running requests end within the 10 seconds that `docker stop` gives.
ENTRYPOINT ["asr", "serve", "--host", "0.0.0.0", "--stop-seconds", "8"]
