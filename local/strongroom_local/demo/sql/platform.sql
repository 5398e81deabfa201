-- What the platform's own role may do, which exists already; what Strongroom's roles may do stands in deploy/sql/roles.sql.
-- Every statement may run again.

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
