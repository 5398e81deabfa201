# Airflow with Strongroom. The stage `strongroom` runs on any container platform, `compose` adds what docker-compose.yaml needs, and
# `kubernetes` what Airflow's Helm chart needs (docs/start/kubernetes.md).
# Everything runs as the image's own user, airflow (50000), who cannot change the copied files.
# AIRFLOW_DIGEST=sha256:… is the digest of the base image. Whoever publishes it can move its tag, but not its digest.
ARG AIRFLOW_VERSION=3.3.2
ARG AIRFLOW_DIGEST=
FROM apache/airflow:${AIRFLOW_VERSION}-python3.12${AIRFLOW_DIGEST:+@${AIRFLOW_DIGEST}} AS strongroom
ARG AIRFLOW_VERSION

# --chmod makes the copied files readable for the image's user, whatever umask the repository was cloned with.
# Install the exact versions and hashes from `make lock`. Packages that the image already has change to these versions.
COPY --chmod=644 deploy/compose/requirements.lock /opt/strongroom/requirements.lock
RUN pip install --no-cache-dir --no-deps --require-hashes -r /opt/strongroom/requirements.lock

# The build runs as this user, who must own the folder.
RUN mkdir /tmp/strongroom
COPY --chown=airflow:0 --chmod=755 pyproject.toml README.md LICENSE requirements.txt requirements-iceberg.txt /tmp/strongroom/
COPY --chown=airflow:0 --chmod=755 include /tmp/strongroom/include
COPY --chown=airflow:0 --chmod=755 plugins /tmp/strongroom/plugins
RUN pip install --no-cache-dir --no-deps /tmp/strongroom && rm -rf /tmp/strongroom

# strongroom_airflow is installed as a package, so the plugins folder needs only the file for Airflow's plugin loader.
COPY --chmod=755 dags ${AIRFLOW_HOME}/dags
COPY --chmod=755 plugins/strongroom_plugin.py plugins/.airflowignore ${AIRFLOW_HOME}/plugins/
COPY --chmod=755 include/config /opt/strongroom/config
ENV STRONGROOM_CONFIG=/opt/strongroom/config/archive.yaml

# Fail the build of a broken image, not its first run.
RUN airflow version | grep -qx "${AIRFLOW_VERSION}" \
    && python -c "import airflow.providers.celery, redis, strongroom_airflow.provider; from strongroom.settings import load_settings; load_settings()"

# The sample data, and the scripts that prepare the volumes of docker-compose.yaml.
FROM strongroom AS compose
COPY --chmod=755 deploy/compose /opt/strongroom/compose
COPY --chmod=755 deploy/s3 /opt/strongroom/s3
COPY --chmod=755 deploy/sql /opt/strongroom/sql
COPY --chmod=755 local /opt/strongroom/local
ENV PYTHONPATH=/opt/strongroom/local
RUN python -c "import strongroom_local.demo.sample, strongroom_local.servers.s3"

# The executor that starts pods, and Airflow's own users. It is not built on a base image that is named by its tag alone.
FROM strongroom AS kubernetes
ARG AIRFLOW_DIGEST
RUN test -n "${AIRFLOW_DIGEST}" || { echo "give --build-arg AIRFLOW_DIGEST=sha256:…, see docs/start/kubernetes.md" >&2; exit 1; }
COPY --chmod=644 deploy/kubernetes/requirements.lock /opt/strongroom/kubernetes.lock
RUN pip install --no-cache-dir --no-deps --require-hashes -r /opt/strongroom/kubernetes.lock
RUN python -c "import airflow.providers.cncf.kubernetes.executors.kubernetes_executor, airflow.providers.fab.auth_manager.fab_auth_manager"
