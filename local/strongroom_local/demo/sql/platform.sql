-- The rights of the platform's own role, which already exists. For Strongroom's roles see deploy/sql/roles.sql.
-- Every statement is safe to repeat.

-- The platform's role owns its tables, as if it had created them.
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

-- Before PostgreSQL 15, every role may create objects in public. The archiver must not.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
