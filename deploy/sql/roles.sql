-- Creates Strongroom's three roles in one database, each with only the rights it needs. Run it as a superuser, or as a
-- table owner who may also create roles. Run it again when you add a table to archive.yaml.
--
--   psql "$DATABASE" --single-transaction --set=ON_ERROR_STOP=1 --file=deploy/sql/roles.sql \
--     --set=archiver=strongroom_archiver --set=restorer=strongroom_restorer --set=reader=strongroom_reader \
--     --set=tables='public.audit_events, public.call_detail_records, "Odd Schema"."Odd Table"'
--
--   archiver  (connection strongroom_source)   reads and deletes rows of the tables, reads tables that refer to them
--   restorer  (connection strongroom_restore)  reads and inserts rows, sets sequences, creates tables in schema restored
--   reader    (strongroom_source of a statistics host or the exporter)  reads the tables and changes nothing
--
-- tables is a comma-separated list. Each name has its schema, and is quoted as in SQL. On the listed tables, rights to
-- change rows or the table that a role should not have are revoked. Rights on other tables are not changed; a notice
-- names other tables that a role may change. To remove a table: REVOKE ALL ON public.payments FROM strongroom_archiver,
-- strongroom_restorer, strongroom_reader. `airflow strongroom warm apply` grants the rights on warm tables. Set the
-- passwords yourself: \password strongroom_archiver

-- Only the server's own functions, operators and types are used, whatever the schemas of this database contain.
SET search_path = pg_catalog, pg_temp;

SELECT set_config('strongroom.archiver', :'archiver', false),
       set_config('strongroom.restorer', :'restorer', false),
       set_config('strongroom.reader', :'reader', false),
       set_config('strongroom.tables', :'tables', false);

DO $$
DECLARE
    archiver name := current_setting('strongroom.archiver');
    restorer name := current_setting('strongroom.restorer');
    reader name := current_setting('strongroom.reader');
    roles name[] := ARRAY[archiver, restorer, reader];
    listed text[] := ARRAY(
        SELECT btrim(part[1], E' \n\t')
        FROM regexp_matches(current_setting('strongroom.tables'), '((?:"(?:[^"]|"")*"|[^",])+)', 'g') AS part
        WHERE btrim(part[1], E' \n\t') <> '');
    tables regclass[];
    one record;
    held text;
BEGIN
    SELECT string_agg(t, ', ') INTO held FROM unnest(listed) AS t WHERE cardinality(parse_ident(t)) <> 2;
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'tables without their schema: %', held
            USING HINT = 'Nothing was changed. Write each as schema.table, such as public.audit_events.';
    END IF;
    tables := ARRAY(SELECT t::regclass FROM unnest(listed) AS t);
    IF cardinality(tables) = 0 OR (SELECT count(DISTINCT r) FROM unnest(roles) AS r) < 3 THEN
        RAISE EXCEPTION 'give at least one table, and three different roles';
    END IF;
    SELECT string_agg(t::text, ', ') INTO held
    FROM unnest(tables) AS t JOIN pg_class c ON c.oid = t WHERE c.relkind NOT IN ('r', 'p');
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'not ordinary or partitioned tables: %', held;
    END IF;

    -- The roles may log in, and have no other attribute.
    FOR one IN SELECT r AS role, p.oid IS NULL AS missing,
                      p.rolsuper OR p.rolcreatedb OR p.rolcreaterole OR p.rolreplication OR p.rolbypassrls AS mighty,
                      p.rolcanlogin
               FROM unnest(roles) AS r LEFT JOIN pg_roles p ON p.rolname = r LOOP
        IF one.missing THEN
            EXECUTE format('CREATE ROLE %I LOGIN', one.role);
        ELSIF one.mighty THEN
            EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', one.role);
        END IF;
        IF NOT one.rolcanlogin THEN
            EXECUTE format('ALTER ROLE %I LOGIN', one.role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), one.role);
    END LOOP;
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I, %I', current_database(), archiver, restorer);

    FOR one IN SELECT DISTINCT c.relnamespace::regnamespace AS schema FROM unnest(tables) AS t JOIN pg_class c ON c.oid = t LOOP
        EXECUTE format('REVOKE CREATE ON SCHEMA %s FROM %I, %I, %I', one.schema, archiver, restorer, reader);
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I, %I, %I', one.schema, archiver, restorer, reader);
    END LOOP;
    FOR one IN SELECT t AS name FROM unnest(tables) AS t LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I', one.name, archiver);
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I', one.name, restorer);
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I', one.name, reader);
        EXECUTE format('GRANT SELECT, DELETE ON %s TO %I', one.name, archiver);
        EXECUTE format('GRANT SELECT, INSERT ON %s TO %I', one.name, restorer);
        EXECUTE format('GRANT SELECT ON %s TO %I', one.name, reader);
    END LOOP;

    -- Rows that others refer to are kept. To find them, the archiver reads the tables that refer to ours.
    FOR one IN SELECT DISTINCT f.conrelid::regclass AS name, c.relnamespace::regnamespace AS schema
               FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
               WHERE f.contype = 'f' AND f.confrelid IN (
                   SELECT unnest(tables)
                   UNION SELECT p.relid FROM unnest(tables) AS t, pg_partition_tree(t) AS p
                   UNION SELECT p.relid FROM unnest(tables) AS t, pg_partition_ancestors(t) AS p) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', one.schema, archiver);
        EXECUTE format('GRANT SELECT ON %s TO %I', one.name, archiver);
    END LOOP;

    -- A sequence must not give out the numbers of restored rows again, so the restorer may set it.
    FOR one IN SELECT DISTINCT d.objid::regclass AS name FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
               WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                 AND d.refobjid = ANY (tables) AND d.deptype IN ('a', 'i') LOOP
        EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM %I, %I', one.name, archiver, reader);
        EXECUTE format('GRANT SELECT, UPDATE ON SEQUENCE %s TO %I', one.name, restorer);
    END LOOP;
    IF to_regnamespace('restored') IS NULL THEN
        CREATE SCHEMA restored;
    END IF;
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA restored TO %I', restorer);

    -- A role may also have rights through PUBLIC, or through a role that it is a member of.
    SELECT string_agg(further, ', ' ORDER BY further) INTO held
    FROM (
        SELECT format('%s may %s %s', r, p, t)
        FROM unnest(roles) AS r, unnest(tables) AS t,
             unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
        WHERE has_table_privilege(r, t, p) AND NOT (r = archiver AND p = 'DELETE') AND NOT (r = restorer AND p = 'INSERT')
        UNION ALL
        SELECT format('%s owns %s', r, t)
        FROM unnest(roles) AS r, unnest(tables) AS t JOIN pg_class c ON c.oid = t
        WHERE pg_has_role(r, c.relowner, 'MEMBER')
    ) AS rights (further);
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'rights through PUBLIC, ownership or another role: %', held
            USING HINT = 'Nothing was changed. Take these rights away there, then run this again.';
    END IF;
    SELECT string_agg(DISTINCT format('%s may %s %s', p.rolname, a.privilege_type, c.oid::regclass), ', ') INTO held
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS a JOIN pg_roles p ON p.oid = a.grantee AND p.rolname = ANY (roles)
    WHERE c.relkind IN ('r', 'p') AND a.privilege_type <> 'SELECT' AND a.grantee <> c.relowner AND NOT c.oid = ANY (tables)
      AND c.relnamespace <> coalesce(to_regnamespace('warm')::oid, 0);
    IF held IS NOT NULL THEN
        RAISE NOTICE 'rights on tables that are not listed stay: %', held;
    END IF;
    SELECT string_agg(DISTINCT format('%s in %s', r, c.relnamespace::regnamespace), ', ') INTO held
    FROM unnest(roles) AS r, unnest(tables) AS t JOIN pg_class c ON c.oid = t
    WHERE has_schema_privilege(r, c.relnamespace, 'CREATE');
    IF held IS NOT NULL THEN
        RAISE WARNING 'everybody may create tables there, and so may these: %', held
            USING HINT = 'REVOKE CREATE ON SCHEMA … FROM PUBLIC; PostgreSQL 15 does so by itself for schema public.';
    END IF;
END
$$;
