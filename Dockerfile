# The four services in one container. Build: docker build -t miclip .
# For small CPU builds of torch: --build-arg TORCH_INDEX=(the address of PyTorch's index of them).
# Any Debian-like image with Python 3.11 or 3.12 and its venv module may be the base: --build-arg BASE=...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS builder
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/miclip
WORKDIR /src
# Dependencies change seldom: a layer of their own, torch first so that nothing replaces its build.
COPY constraints.txt pyproject.toml ./
RUN /opt/miclip/bin/pip install -c constraints.txt ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} torch torchvision \
 && /opt/miclip/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
 && /opt/miclip/bin/pip install -c constraints.txt -r requirements.txt hatchling
COPY . .
RUN /opt/miclip/bin/pip install --no-deps --no-build-isolation .

FROM ${BASE}
RUN useradd --uid 10001 --create-home miclip \
 && install -d -o miclip -g miclip /var/lib/miclip
COPY --from=builder /opt/miclip /opt/miclip
ENV PATH=/opt/miclip/bin:$PATH \
    HF_HUB_OFFLINE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    MICLIP_METRICS_HOST=0.0.0.0 \
    MICLIP_STATE_DIR=/var/lib/miclip/state \
    MICLIP_DATA_DIR=/var/lib/miclip/data
USER 10001
# Atlases, and the API key that the first start makes: read it with `docker exec ... cat /var/lib/miclip/state/api_key`.
VOLUME /var/lib/miclip
EXPOSE 9000 8000
# Metrics of `miclip serve`, which the pods of k8s/ do not run.
EXPOSE 9464
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s CMD ["miclip", "status", "--json"]
CMD ["miclip", "serve"]
