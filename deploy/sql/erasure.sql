-- Creates the role that erases persons. Run it as a superuser, or as a table owner who may also create roles. Run it again when you add
-- `subjects.columns` to a table in archive.yaml.
--
--   psql "$DATABASE" --single-transaction --set=ON_ERROR_STOP=1 --file=deploy/sql/erasure.sql \
--     --set=eraser=strongroom_eraser --set=restorer=strongroom_restorer \
--     --set=tables='public.call_detail_records, "Odd Schema"."Odd Table"'
--
-- The role (connection strongroom_erasure) reads, updates and deletes rows of the listed tables, of their warm tables, and of copies that
-- the restorer makes in schema restored. It may do nothing else, and only the DAG subject_erasure and `airflow strongroom subject report` use it.
-- Each table in the list has its schema. Set the password yourself: \password strongroom_eraser

-- Only the server's own functions, operators and types are used, whatever the schemas of this database contain.
SET search_path = pg_catalog, pg_temp;

SELECT set_config('strongroom.eraser', :'eraser', false),
       set_config('strongroom.restorer', :'restorer', false),
       set_config('strongroom.tables', :'tables', false);

DO $$
DECLARE
    eraser name := current_setting('strongroom.eraser');
    restorer name := current_setting('strongroom.restorer');
    listed text[] := ARRAY(
        SELECT btrim(part[1], E' \n\t')
        FROM regexp_matches(current_setting('strongroom.tables'), '((?:"(?:[^"]|"")*"|[^",])+)', 'g') AS part
        WHERE btrim(part[1], E' \n\t') <> '');
    one regclass;
    held text;
    schema_name name;
    warm_name text;
BEGIN
    SELECT string_agg(t, ', ') INTO held FROM unnest(listed) AS t WHERE cardinality(parse_ident(t)) <> 2;
    IF held IS NOT NULL OR cardinality(listed) = 0 THEN
        RAISE EXCEPTION 'no tables, or tables without their schema: %', held
            USING HINT = 'Nothing was changed. Write each as schema.table, such as public.call_detail_records.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = eraser) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', eraser);
    ELSIF EXISTS (SELECT FROM pg_roles WHERE rolname = eraser
                  AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)) THEN
        EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', eraser);
    END IF;
    SELECT string_agg(m.roleid::regrole::text, ', ') INTO held
    FROM pg_auth_members m JOIN pg_roles p ON p.oid = m.member AND p.rolname = eraser;
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'rights through another role: %', held
            USING HINT = 'Nothing was changed. Take the membership away, or name another role, then run this again.';
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), eraser);
    FOREACH one IN ARRAY ARRAY(SELECT t::regclass FROM unnest(listed) AS t) LOOP
        SELECT n.nspname INTO schema_name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = one;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema_name, eraser);
        EXECUTE format('REVOKE INSERT, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I', one, eraser);
        EXECUTE format('GRANT SELECT, UPDATE, DELETE ON %s TO %I', one, eraser);
        SELECT CASE WHEN schema_name = 'public' THEN c.relname ELSE format('%s__%s', schema_name, c.relname) END INTO warm_name
        FROM pg_class c WHERE c.oid = one;
        IF to_regclass(format('warm.%I', warm_name)) IS NOT NULL THEN
            EXECUTE format('GRANT USAGE ON SCHEMA warm TO %I', eraser);
            EXECUTE format('GRANT SELECT, UPDATE, DELETE ON warm.%I TO %I', warm_name, eraser);
        END IF;
    END LOOP;
    IF to_regnamespace('restored') IS NOT NULL AND EXISTS (SELECT FROM pg_roles WHERE rolname = restorer) THEN
        EXECUTE format('GRANT USAGE ON SCHEMA restored TO %I', eraser);
        EXECUTE format('GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA restored TO %I', eraser);
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA restored GRANT SELECT, UPDATE, DELETE ON TABLES TO %I',
                       restorer, eraser);
    END IF;
END
$$;
