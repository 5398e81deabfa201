# Airflow with Strongroom inside, for docker-compose.yaml and for any other place that runs containers.
# Everything runs as the image's own user, airflow (50000), who may not change what was copied here.
ARG AIRFLOW_VERSION=3.3.2
FROM apache/airflow:${AIRFLOW_VERSION}-python3.12
ARG AIRFLOW_VERSION

# Naming Airflow's version keeps pip from moving it. The Celery provider and the Redis client come with the image.
COPY requirements.txt /opt/strongroom/requirements.txt
RUN pip install --no-cache-dir "apache-airflow==${AIRFLOW_VERSION}" -r /opt/strongroom/requirements.txt

# Made first and by this user, who builds in it.
RUN mkdir /tmp/strongroom
COPY --chown=airflow:0 pyproject.toml README.md requirements.txt /tmp/strongroom/
COPY --chown=airflow:0 include /tmp/strongroom/include
COPY --chown=airflow:0 plugins /tmp/strongroom/plugins
RUN pip install --no-cache-dir --no-deps /tmp/strongroom && rm -rf /tmp/strongroom

# strongroom_airflow is installed; in the plugins folder lies only the file that Airflow's plugin loader sees.
COPY dags ${AIRFLOW_HOME}/dags
COPY plugins/strongroom_plugin.py plugins/.airflowignore ${AIRFLOW_HOME}/plugins/
COPY include/config /opt/strongroom/config
COPY deploy/compose /opt/strongroom/compose
COPY deploy/s3 /opt/strongroom/s3
COPY deploy/sql /opt/strongroom/sql
ENV STRONGROOM_CONFIG=/opt/strongroom/config/archive.yaml

# A broken image is seen here and not in the first run.
RUN airflow version | grep -qx "${AIRFLOW_VERSION}" \
    && python -c "import airflow.providers.celery, redis, strongroom_airflow.provider, strongroom_local.sample; from strongroom.settings import load_settings; load_settings()"
