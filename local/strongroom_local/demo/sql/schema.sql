-- The five tables of a telecom operator's anti-fraud platform. Every statement is safe to repeat.
-- Phone numbers and accounts sort by code point (COLLATE "C"): they are identifiers, and the indexes cost half as much.

DO $$
BEGIN
    IF to_regtype('public.alert_severity') IS NULL THEN
        CREATE TYPE public.alert_severity AS ENUM ('low', 'medium', 'high', 'critical');
    END IF;
    IF to_regtype('public.call_direction') IS NULL THEN
        CREATE TYPE public.call_direction AS ENUM ('on-net', 'off-net', 'international-in', 'international-out');
    END IF;
    IF to_regtype('public.investigation_status') IS NULL THEN
        CREATE TYPE public.investigation_status AS ENUM ('open', 'assigned', 'escalated', 'confirmed', 'unfounded');
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS public.acm_alerts (
    alert_id         uuid                  PRIMARY KEY DEFAULT gen_random_uuid(),
    detected_at      timestamptz           NOT NULL DEFAULT now(),
    severity         public.alert_severity NOT NULL,
    rule_code        text                  NOT NULL,
    matched_rules    text[]                NOT NULL DEFAULT '{}',
    fraud_score      numeric(5, 2)         NOT NULL CHECK (fraud_score BETWEEN 0 AND 100),
    calling_number   text COLLATE "C"      NOT NULL,
    called_number    text COLLATE "C"      NOT NULL,
    presented_number text COLLATE "C",
    subscriber_name  text,
    gateway_ip       inet                  NOT NULL,
    cell_id          text,
    calls_in_window  integer               NOT NULL CHECK (calls_in_window > 0),
    answer_ratio     double precision,
    evidence         jsonb                 NOT NULL DEFAULT '{}',
    remark           text,
    acknowledged_at  timestamptz,
    response_time    interval GENERATED ALWAYS AS (acknowledged_at - detected_at) STORED
);
COMMENT ON TABLE public.acm_alerts IS 'Anti call masking: calls whose presented number hides where they come from';
CREATE INDEX IF NOT EXISTS acm_alerts_detected_at ON public.acm_alerts (detected_at);
CREATE INDEX IF NOT EXISTS acm_alerts_calling_number ON public.acm_alerts (calling_number);
CREATE INDEX IF NOT EXISTS acm_alerts_unacknowledged
    ON public.acm_alerts (severity, detected_at) WHERE acknowledged_at IS NULL;

CREATE TABLE IF NOT EXISTS public.audit_events (
    event_id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at     timestamptz NOT NULL DEFAULT now(),
    actor          text COLLATE "C" NOT NULL,
    actor_name     text,
    actor_ip       inet,
    session_id     uuid,
    action         text        NOT NULL,
    entity         text        NOT NULL,
    entity_id      text,
    succeeded      boolean     NOT NULL,
    old_values     jsonb,
    new_values     jsonb,
    tags           text[],
    message        text,
    duration_ms    real,
    request_sha256 bytea
);
COMMENT ON TABLE public.audit_events IS 'Who did what on the platform; kept seven years for the regulator';
CREATE INDEX IF NOT EXISTS audit_events_created_at ON public.audit_events (created_at);
CREATE INDEX IF NOT EXISTS audit_events_actor ON public.audit_events (actor, created_at);

CREATE TABLE IF NOT EXISTS public.call_detail_records (
    id               bigint                GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    call_reference   uuid                  NOT NULL DEFAULT gen_random_uuid(),
    call_start_time  timestamptz           NOT NULL,
    answer_time      timestamptz,
    duration_seconds integer               NOT NULL CHECK (duration_seconds >= 0),
    billable_minutes integer               GENERATED ALWAYS AS ((duration_seconds + 59) / 60) STORED,
    direction        public.call_direction NOT NULL,
    calling_number   text COLLATE "C"      NOT NULL,
    called_number    text COLLATE "C"      NOT NULL,
    presented_number text COLLATE "C",
    imsi             text,
    cell_id          text,
    gateway_ip       inet                  NOT NULL,
    codecs           text[]                NOT NULL,
    charge           numeric(10, 2)        NOT NULL,
    currency         char(3)               NOT NULL DEFAULT 'NGN',
    hangup_cause     smallint              NOT NULL,
    quality          jsonb,
    remark           text
);
COMMENT ON TABLE public.call_detail_records IS 'One row per call attempt as the switches report it';
COMMENT ON COLUMN public.call_detail_records.hangup_cause IS 'ITU-T Q.850 cause value';
CREATE INDEX IF NOT EXISTS call_detail_records_call_start_time ON public.call_detail_records (call_start_time);
CREATE INDEX IF NOT EXISTS call_detail_records_calling_number
    ON public.call_detail_records (calling_number, call_start_time);

CREATE TABLE IF NOT EXISTS public.gateway_blacklist_history (
    gateway_ip       inet        NOT NULL,
    change_number    bigint      GENERATED ALWAYS AS IDENTITY,
    created_at       timestamptz NOT NULL DEFAULT now(),
    action           text        NOT NULL CHECK (action IN ('listed', 'extended', 'delisted')),
    carrier          text,
    country          char(2),
    blocked_networks cidr[]      NOT NULL DEFAULT '{}',
    blocked_ports    int4range,
    fraud_ratio      numeric(7, 4),
    valid_for        interval,
    expires_at       timestamptz,
    reason           text,
    changed_by       text        NOT NULL,
    details          jsonb,
    PRIMARY KEY (gateway_ip, change_number)
);
COMMENT ON TABLE public.gateway_blacklist_history IS 'Every change of the list of gateways whose calls are refused';
CREATE INDEX IF NOT EXISTS gateway_blacklist_history_created_at ON public.gateway_blacklist_history (created_at);

CREATE TABLE IF NOT EXISTS public.fraud_investigations (
    investigation_id uuid                        PRIMARY KEY DEFAULT gen_random_uuid(),
    case_number      bigint                      GENERATED ALWAYS AS IDENTITY UNIQUE,
    created_at       timestamptz                 NOT NULL DEFAULT now(),
    alert_id         uuid                        REFERENCES public.acm_alerts (alert_id),
    status           public.investigation_status NOT NULL DEFAULT 'open',
    investigator     text                        NOT NULL,
    subject_name     text,
    subject_number   text,
    observed         tstzrange,
    estimated_loss   numeric(14, 2),
    recovered        numeric(14, 2)              NOT NULL DEFAULT 0,
    open_loss        numeric(14, 2)              GENERATED ALWAYS AS (estimated_loss - recovered) STORED,
    related_numbers  text[],
    evidence         jsonb,
    findings         text,
    due_on           date,
    closed_at        timestamptz
);
COMMENT ON TABLE public.fraud_investigations IS 'Cases that an analyst opened, often days after the alert behind them';
CREATE INDEX IF NOT EXISTS fraud_investigations_created_at ON public.fraud_investigations (created_at);
CREATE INDEX IF NOT EXISTS fraud_investigations_alert_id ON public.fraud_investigations (alert_id);
CREATE INDEX IF NOT EXISTS fraud_investigations_open
    ON public.fraud_investigations (status, due_on) WHERE closed_at IS NULL;

-- What the generator has made so far, so that a repeated run does not bring back archived rows.
CREATE SCHEMA IF NOT EXISTS strongroom_sample;
CREATE TABLE IF NOT EXISTS strongroom_sample.progress (
    table_name   text        NOT NULL,
    month        date        NOT NULL,
    made_rows    bigint      NOT NULL,
    filled_until timestamptz NOT NULL,
    PRIMARY KEY (table_name, month)
);
COMMENT ON TABLE strongroom_sample.progress IS
    'Sample rows made per table and month: ordinals 1..made_rows, up to filled_until';
