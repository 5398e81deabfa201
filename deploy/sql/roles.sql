-- The three roles that Strongroom works with, each with the least rights, in one database. Run it as a superuser, or as
-- the owner of the tables who may also create roles; run it again for each table that is added to archive.yaml.
--
--   psql "$DATABASE" --single-transaction --set=ON_ERROR_STOP=1 --file=deploy/sql/roles.sql \
--     --set=archiver=strongroom_archiver --set=restorer=strongroom_restorer --set=reader=strongroom_reader \
--     --set=tables='public.audit_events, public.call_detail_records, "Odd Schema"."Odd Table"'
--
--   archiver  (connection strongroom_source)   reads and deletes rows of the tables, reads tables that refer to them
--   restorer  (connection strongroom_restore)  reads and inserts rows, moves sequences, makes tables in schema restored
--   reader    (strongroom_source of a statistics host or the exporter)  reads the tables and changes nothing
--
-- tables are names with commas between them, each with its schema, quoted as SQL quotes them. Tables that are not listed
-- are left alone: what the roles may do with them, they still may, and a notice names those that a role may change. To
-- take a table out of their reach: REVOKE ALL ON public.payments FROM strongroom_archiver, strongroom_restorer,
-- strongroom_reader. On the listed tables a right to change rows or the table that is not a role's due is taken away.
-- Rights on warm tables are given by `airflow strongroom warm apply`. Passwords are yours to set:
-- \password strongroom_archiver

-- Nobody's function, operator or type is used here but the server's own, whatever lies in the schemas of this database.
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

    -- Roles that may log in, and nothing else.
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

    -- Rows that others refer to stay; to see that, the archiver reads the tables that refer to ours.
    FOR one IN SELECT DISTINCT f.conrelid::regclass AS name, c.relnamespace::regnamespace AS schema
               FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
               WHERE f.contype = 'f' AND f.confrelid IN (
                   SELECT unnest(tables)
                   UNION SELECT p.relid FROM unnest(tables) AS t, pg_partition_tree(t) AS p
                   UNION SELECT p.relid FROM unnest(tables) AS t, pg_partition_ancestors(t) AS p) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', one.schema, archiver);
        EXECUTE format('GRANT SELECT ON %s TO %I', one.name, archiver);
    END LOOP;

    -- Numbers of rows that came back must not be given out again.
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

    -- A right may also come from PUBLIC, or from a role that one of these is a member of.
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
