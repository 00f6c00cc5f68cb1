# simfrcnn as a container: `docker build -t simfrcnn .`, then the verbs of the command line, such as
# `docker run --rm -v STUDIES:/in:ro -v OUT:/data simfrcnn predict /in --weights cbis-mass --output /data/found`.
# PIP_OPTIONS may name another package index, such as one of PyTorch for CPUs alone (smaller by gigabytes).
FROM python:3.12-slim-bookworm AS build
ARG PIP_OPTIONS=""
ARG EXTRAS="jpeg,xlsx,dicom-out,node,serve"
WORKDIR /source
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE CHANGELOG.md CITATION.cff ./
COPY configs configs
COPY simfrcnn simfrcnn
RUN python -m venv /opt/simfrcnn \
    && /opt/simfrcnn/bin/python -m pip install --no-cache-dir ${PIP_OPTIONS} ".[${EXTRAS}]"

FROM python:3.12-slim-bookworm
# OpenCV's libraries.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/simfrcnn /opt/simfrcnn
COPY --chmod=755 tools/container_entry.sh /usr/local/bin/container-entry
# Keys of pseudonyms and id maps are kept with the data; /tmp is all else that is written to.
ENV PATH=/opt/simfrcnn/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_STATE_HOME=/data/private
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin simfrcnn \
    && install --directory --owner=10001 --group=10001 --mode=700 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 11112 8080
STOPSIGNAL SIGTERM
# Of `simfrcnn node --folder /data`, the service that runs for months; compose.yaml has that of `serve`.
HEALTHCHECK --interval=60s --timeout=30s --start-period=120s --retries=3 \
    CMD ["simfrcnn", "node", "--health", "/data"]
ENTRYPOINT ["container-entry"]
