# Image of late-exporter; build tools stay in the first stage. `make image` sets the build arguments.
FROM docker.io/library/python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS base


FROM base AS build
WORKDIR /build

COPY .requirements/build.txt .requirements/run.txt .requirements/
RUN python -m venv --without-pip /opt/build \
 && python -m venv --without-pip /opt/late-exporter \
 && pip --python /opt/build install --no-cache-dir --no-deps --only-binary :all: --require-hashes \
    -r .requirements/build.txt \
 && pip --python /opt/late-exporter install --no-cache-dir --no-compile --no-deps --only-binary :all: --require-hashes \
    -r .requirements/run.txt

COPY LICENSE README.md pyproject.toml ./
COPY late_exporter late_exporter
COPY deploy deploy
COPY grafana/dashboards grafana/dashboards
ARG VERSION=0.1.0
ARG REVISION=unknown
# Unchecked bytecode stays valid when files are copied, and starts faster.
RUN grep -qx "__version__ = \"${VERSION}\"" late_exporter/__init__.py \
 && sed -i "s/^__revision__ = .*/__revision__ = \"${REVISION}\"/" late_exporter/__init__.py \
 && /opt/build/bin/python -m hatchling build --target wheel --directory /wheel \
 && pip --python /opt/late-exporter install --no-cache-dir --no-compile --no-deps --no-index /wheel/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/late-exporter/lib \
 && mkdir -m 700 /state


FROM base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="late-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the publishing and connection logs of Zernio (formerly Late)" \
      org.opencontainers.image.source="https://github.com/late-exporter/late-exporter" \
      org.opencontainers.image.documentation="https://github.com/late-exporter/late-exporter#readme" \
      org.opencontainers.image.url="https://github.com/late-exporter/late-exporter" \
      org.opencontainers.image.authors="The late-exporter maintainers" \
      org.opencontainers.image.vendor="The late-exporter maintainers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/late-exporter /opt/late-exporter
COPY --from=build --chown=65532:65532 /state /var/lib/late-exporter

# STATE_DIRECTORY sets the default location of the state; --state.url and the configuration file take precedence.
# SQLITE_TMPDIR: the volume is all that a read-only container can write.
ENV PATH=/opt/late-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SQLITE_TMPDIR=/var/lib/late-exporter \
    STATE_DIRECTORY=/var/lib/late-exporter
USER 65532:65532
VOLUME /var/lib/late-exporter
EXPOSE 10077
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["late-exporter", "healthcheck"]
ENTRYPOINT ["late-exporter"]
CMD ["run"]
