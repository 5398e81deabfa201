# Airflow with Strongroom inside: the stage `strongroom` for any place that runs containers, and on top of it what
# docker-compose.yaml needs besides (the last stage, and so the default).
# Everything runs as the image's own user, airflow (50000), who may not change what was copied here.
ARG AIRFLOW_VERSION=3.3.2
FROM apache/airflow:${AIRFLOW_VERSION}-python3.12 AS strongroom
ARG AIRFLOW_VERSION

# Whatever the umask of who cloned it, the image's user may read what is copied: hence the --chmod.
# Exact versions by their hashes, as `make lock` wrote them; the image's own packages that they name are brought to these.
COPY --chmod=644 deploy/compose/requirements.lock /opt/strongroom/requirements.lock
RUN pip install --no-cache-dir --no-deps --require-hashes -r /opt/strongroom/requirements.lock

# Made first and by this user, who builds in it.
RUN mkdir /tmp/strongroom
COPY --chown=airflow:0 --chmod=755 pyproject.toml README.md LICENSE requirements.txt /tmp/strongroom/
COPY --chown=airflow:0 --chmod=755 include /tmp/strongroom/include
COPY --chown=airflow:0 --chmod=755 plugins /tmp/strongroom/plugins
RUN pip install --no-cache-dir --no-deps /tmp/strongroom && rm -rf /tmp/strongroom

# strongroom_airflow is installed; in the plugins folder lies only the file that Airflow's plugin loader sees.
COPY --chmod=755 dags ${AIRFLOW_HOME}/dags
COPY --chmod=755 plugins/strongroom_plugin.py plugins/.airflowignore ${AIRFLOW_HOME}/plugins/
COPY --chmod=755 include/config /opt/strongroom/config
ENV STRONGROOM_CONFIG=/opt/strongroom/config/archive.yaml

# A broken image is seen here and not in the first run.
RUN airflow version | grep -qx "${AIRFLOW_VERSION}" \
    && python -c "import airflow.providers.celery, redis, strongroom_airflow.provider; from strongroom.settings import load_settings; load_settings()"

# Sample tables, and the programs that prepare the volumes of docker-compose.yaml.
FROM strongroom AS compose
COPY --chmod=755 deploy/compose /opt/strongroom/compose
COPY --chmod=755 deploy/s3 /opt/strongroom/s3
COPY --chmod=755 deploy/sql /opt/strongroom/sql
COPY --chmod=755 local /opt/strongroom/local
ENV PYTHONPATH=/opt/strongroom/local
RUN python -c "import strongroom_local.demo.sample, strongroom_local.servers.s3"
