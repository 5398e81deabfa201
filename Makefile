# A newcomer needs two commands: make demo, make test. The first one also sets up .venv.
#
#   PYTHON=python3.12   the Python for .venv (default: the one in .venv, or the first of 3.10 to 3.13 found)
#   ROWS=200000         call records a month for demo and sample; the other tables follow in proportion
#   KEEP=1              demo leaves its stack running
#   FIGURES=1           pictures takes only those of alerts and figures
#   UNPAUSED=1          up lets purge, drills, scrub and statistics run on schedule (0 pauses them; default: unchanged)
#   ARGS="-k verify"    more arguments for pytest or the benches
#   POSTGRES=15         test on the system's PostgreSQL of that version; installed if missing, on Debian as root
#   HELM_SCHEMA=FILE    test also checks deploy/kubernetes/values.yaml against the Helm chart's schema
#   EVERYTHING=1        test runs the thorough tests too, and requires coverage, as CI does (three times as long)
#   MINUTES=5           how long soak runs
#   SERIES=10000,50000  months of bench-scale; PICTURE=docs/measured/scale.svg is what it draws
#   CHART=FILE.svg      where bench draws its chart (docs/measured/bench.svg)
#   WRITE=1             test-faults writes its table into docs/explain/reliability.md

PYTHON ?=
ROWS ?= 50000
KEEP ?=
UNPAUSED ?=
ARGS ?=
WRITE ?=
MINUTES ?= 5
POSTGRES ?=
EVERYTHING ?=
SERIES ?= 1000000,5000000,20000000
PICTURE ?= docs/measured/scale.svg
CHART ?= docs/measured/bench.svg

VENV := .venv/bin
LOCAL := $(VENV)/python -m strongroom_local

# If it were set, every Airflow process would compile a thousand modules again at its start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help bench bench-scale bench-compression alerts scaling memory statistics parsing partitions query demo test test-faults soak coverage mutants fuzz lint docs wheel up down status env sample lock clean setup

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

demo: setup ## Archive two months of five tables through real Airflow, prove it, bring one back (ROWS=50000 KEEP=1)
	@$(LOCAL) demo --rows $(ROWS) $(if $(KEEP),--keep)

pictures: setup ## Take the pictures of the documentation from the stack that make demo KEEP=1 left running (minutes; FIGURES=1: of the figures alone)
	@$(LOCAL) pictures $(if $(FIGURES),--figures)

test: setup ## Run every test against real embedded servers (ARGS="-k ..."; POSTGRES=15: tests without Airflow, on that server)
	@$(if $(POSTGRES),programs=$$(deploy/find-postgres --install $(POSTGRES)) && STRONGROOM_POSTGRES=$$programs )EVERYTHING=$(EVERYTHING) deploy/make-test $(ARGS)

coverage: setup ## Run the domain's tests and check that they cover what they must (see docs/explain/testing.md)
	@deploy/measure-coverage $(ARGS)

mutants: setup ## Break the delete in many small ways and check that a test notices each (see docs/explain/testing.md)
	@$(VENV)/python -m bench.mutants

fuzz: setup ## Fuzz the readers for minutes instead of seconds
	@HYPOTHESIS_PROFILE=long $(VENV)/python -m pytest tests/domain/formats/test_readers.py tests/domain/formats/test_any_rows.py \
		tests/domain/settings/test_any_bytes.py tests/domain/test_any_names.py

test-faults: setup ## Break each step at every point, then count the rows (WRITE=1; see docs/explain/reliability.md)
	@$(if $(WRITE),STRONGROOM_FAULTS_TABLE=docs/explain/reliability.md) deploy/test-faults $(ARGS)

soak: setup ## Archive, restore and purge in a loop while rows are written; nothing may grow (MINUTES=5; see docs/explain/reliability.md)
	@$(VENV)/python -m bench.soak --minutes $(MINUTES)

lint: setup ## Check style, formatting, types, imports between packages, pinned versions, and that no secret is tracked
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/mypy tools/verify_evidence.py tools/witness.py tools/make_alerts.py
	@$(VENV)/lint-imports
	@deploy/check-lock requirements.lock
	@deploy/check-lock deploy/compose/requirements.lock
	@deploy/check-lock deploy/kubernetes/requirements.lock
	@deploy/check-lock deploy/kubernetes/schemas.lock
	@deploy/check-lock bench/peers/requirements.lock
	@deploy/check-lock deploy/tlog/requirements.lock
	@git ls-files -z | xargs -0 $(VENV)/detect-secrets-hook --no-verify --exclude-files 'requirements\.lock$$'

docs: setup ## Build the documentation as a site into site/; to look: python3 -m http.server --bind 127.0.0.1 --directory site
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict --quiet

wheel: setup ## Build the package that `pip install` takes, into dist/
	@$(VENV)/uv build --quiet --wheel --no-build-isolation --python $(VENV)/python --out-dir dist

up: setup ## Start PostgreSQL, the S3 server and Airflow (UNPAUSED=1: purge, drills, scrub and statistics run on schedule)
	@$(LOCAL) up $(if $(UNPAUSED),$(if $(filter 0,$(UNPAUSED)),--no-unpaused,--unpaused))

down: setup ## Stop the stack; data and archives are kept
	@$(LOCAL) down

status: setup ## Show what is running, where, whether it is healthy, and which DAGs are paused
	@$(LOCAL) status

env: setup ## Print export lines for psql, aws and airflow; use as: eval "$(make -s env)"
	@$(LOCAL) env

memory: setup ## Measure the memory of each task at 200,000 and 2,000,000 rows (minutes; see docs/measured/memory.md)
	@$(VENV)/python -m bench.measure_memory

statistics: setup ## Measure statistics, catalogue and metrics of 10,000 archives (minutes; see docs/measured/many-tables.md)
	@$(VENV)/python -m bench.measure_statistics 10000

partitions: setup ## Measure how long sessions wait while a whole partition is removed (ROWS=1000000; see docs/measured/partitions.md)
	@$(VENV)/python -m bench.measure_partitions $(if $(filter command line environment,$(origin ROWS)),$(ROWS),1000000)

query: setup ## Measure queries over a million archived rows, their time and memory (ROWS=1000000; see docs/measured/query.md)
	@$(VENV)/python -m bench.measure_query $(if $(filter command line environment,$(origin ROWS)),$(ROWS),1000000)

parsing: setup ## Measure what 200 tables cost the DAG processor and a task (see docs/measured/many-tables.md)
	@$(VENV)/python -m bench.measure_parsing

bench: setup ## Compare Strongroom with an expert's shell pipeline on the same rows (ROWS=1000000 ARGS=--peers: and with others' tools; see docs/measured/performance.md)
	@$(if $(filter --peers,$(ARGS)),deploy/make-peers)
	@$(VENV)/python -m bench --rows $(if $(filter command line environment,$(origin ROWS)),$(ROWS),1000000) --chart $(CHART) $(ARGS)

scaling: setup ## Measure the same archive with one Celery worker and with two (ROWS=400000; see docs/measured/scaling.md)
	@$(VENV)/python -m bench.scaling --rows $(if $(filter command line environment,$(origin ROWS)),$(ROWS),400000) $(ARGS)

bench-scale: setup ## Archive 1, 5 and 20 million rows: flat memory and staging, linear time (20 minutes; SERIES=10000,50000)
	@$(VENV)/python -m bench.scale --series $(SERIES) --picture $(PICTURE) $(ARGS)

bench-compression: setup ## Measure zstd 1 to 19, gzip, dictionaries, long-distance matching and threads on each sample table (minutes)
	@$(VENV)/python -m bench.compression $(ARGS)

sample: setup ## Fill the source tables up to ROWS call records a month
	@$(LOCAL) sample --rows $(ROWS)

alerts: setup ## Make the rules for Prometheus from deploy/monitoring/alerts (ARGS="--runbooks URL": where you serve docs/runbooks)
	@$(VENV)/python tools/make_alerts.py $(ARGS)

lock: ## Update requirements.lock: pin requirements-dev.txt with hashes
	@deploy/make-lock

clean: ## Stop and remove the stack, the virtual environment and caches
	@if [ -x $(VENV)/python ]; then $(LOCAL) destroy; fi
	@rm -rf .venv .strongroom site dist build .ruff_cache .mypy_cache .pytest_cache .hypothesis *.egg-info include/*.egg-info

setup:
	@PYTHON='$(PYTHON)' deploy/make-venv
