# The four services in one image, for CPUs or, with --build-arg VARIANT=cuda, for NVIDIA GPUs (models run there; FAISS
# searches on the CPU in both). `make image` builds it.
# Needs BuildKit or buildah. Wheels in requirements/wheels are taken first; their hashes are checked in any case.
# The base: any Debian-like image with Python 3.11 and its venv module, on x86-64.
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS builder
ARG VARIANT=cpu
# pip's own variables. PyPI has the CUDA builds of torch; the CPU ones are on PyTorch's index.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_NO_INDEX
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_DEPS=1
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/miclip
RUN --mount=type=bind,source=requirements,target=/requirements \
    /opt/build/bin/pip install --require-hashes --only-binary :all: --find-links /requirements/wheels -r /requirements/build.txt
# Dependencies change seldom: a layer of their own.
RUN --mount=type=bind,source=requirements,target=/requirements \
    /opt/build/bin/pip --python /opt/miclip/bin/python install --require-hashes --only-binary :all: \
        --find-links /requirements/wheels -r /requirements/${VARIANT}.txt \
 && cd /opt/miclip/lib/python3.11/site-packages/torch && rm -rf test include bin/*[tT]est* bin/protoc*  # 190 MB for builders
WORKDIR /src
COPY . .
RUN /opt/build/bin/pip wheel --no-build-isolation --wheel-dir /opt/build/wheel . \
 && /opt/build/bin/pip --python /opt/miclip/bin/python install --no-index /opt/build/wheel/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="miclip" \
      org.opencontainers.image.description="What the units of a vision model mean, where a concept lives in it, and how to steer it while it serves." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/miclip miclip \
 && install -d -o miclip -g miclip -m 700 /var/lib/miclip
COPY --from=builder /opt/miclip /opt/miclip
ENV PATH=/opt/miclip/bin:$PATH \
    HF_HUB_OFFLINE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    MICLIP_METRICS_HOST=0.0.0.0 \
    MICLIP_STATE_DIR=/var/lib/miclip/state \
    MICLIP_DATA_DIR=/var/lib/miclip/data
USER 10001
# Nothing is written but here (atlases, policies, logs, and the API key that the first start makes) and in /tmp, so the
# root may be read-only: docker run --read-only --tmpfs /tmp -v miclip:/var/lib/miclip --shm-size 256m miclip:0.1.0
VOLUME /var/lib/miclip
EXPOSE 9000 8000
# Metrics: of `miclip serve`, and of the exporter in the pods of k8s/.
EXPOSE 9464
# Asks the gRPC health of all four services.
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s CMD ["miclip", "status", "--json"]
CMD ["miclip", "serve"]
