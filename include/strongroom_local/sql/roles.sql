-- What the roles may do. The roles exist already; every statement may run again.

-- The platform's own role owns its tables, as it would have created them.
ALTER TYPE public.alert_severity OWNER TO telecom_app;
ALTER TYPE public.call_direction OWNER TO telecom_app;
ALTER TYPE public.investigation_status OWNER TO telecom_app;
ALTER TABLE public.acm_alerts OWNER TO telecom_app;
ALTER TABLE public.audit_events OWNER TO telecom_app;
ALTER TABLE public.call_detail_records OWNER TO telecom_app;
ALTER TABLE public.gateway_blacklist_history OWNER TO telecom_app;
ALTER TABLE public.fraud_investigations OWNER TO telecom_app;
GRANT USAGE, CREATE ON SCHEMA public TO telecom_app;
GRANT USAGE ON SCHEMA strongroom_sample TO telecom_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON strongroom_sample.progress TO telecom_app;

-- Before PostgreSQL 15 everybody may create in public; the archiver must not.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- The archiver reads and deletes. REVOKE first, so that a right given in an earlier version does not linger.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM strongroom_archiver;
REVOKE ALL ON SCHEMA public FROM strongroom_archiver;
GRANT USAGE ON SCHEMA public TO strongroom_archiver;
GRANT SELECT, DELETE ON
    public.acm_alerts,
    public.audit_events,
    public.call_detail_records,
    public.gateway_blacklist_history,
    public.fraud_investigations
TO strongroom_archiver;

-- The restorer reads and inserts, and moves sequences past what came back. Tables of its own go into `restored`.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM strongroom_restorer;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM strongroom_restorer;
REVOKE ALL ON SCHEMA public FROM strongroom_restorer;
GRANT USAGE ON SCHEMA public TO strongroom_restorer;
GRANT SELECT, INSERT ON
    public.acm_alerts,
    public.audit_events,
    public.call_detail_records,
    public.gateway_blacklist_history,
    public.fraud_investigations
TO strongroom_restorer;
GRANT SELECT, UPDATE ON
    public.audit_events_event_id_seq,
    public.call_detail_records_id_seq,
    public.gateway_blacklist_history_change_number_seq,
    public.fraud_investigations_case_number_seq
TO strongroom_restorer;
CREATE SCHEMA IF NOT EXISTS restored;
GRANT USAGE, CREATE ON SCHEMA restored TO strongroom_restorer;
