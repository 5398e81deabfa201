-- Creates the role of restore drills and the schema that they restore into. Run it as a superuser, or as somebody who may create
-- roles and schemas, in the database that the connection strongroom_drill leads to: the source, or a server of its own.
--
--   psql "$DATABASE" --single-transaction --set=ON_ERROR_STOP=1 --file=deploy/sql/drill.sql \
--     --set=drill=strongroom_drill --set=schema=strongroom_drill
--
-- The role may connect, make temporary tables, and make tables in the schema. It may read and write no other table. The script
-- refuses a role that may more, by a grant or as a member of another role, and changes nothing then. What everybody may, this
-- role may too: a warning names such tables. Run it again at any time. Set the password yourself: \password strongroom_drill

-- Only the server's own functions, operators and types are used, whatever the schemas of this database contain.
SET search_path = pg_catalog, pg_temp;

SELECT set_config('strongroom.drill', :'drill', false), set_config('strongroom.drill_schema', :'schema', false);

DO $$
DECLARE
    drill name := current_setting('strongroom.drill');
    scratch name := current_setting('strongroom.drill_schema');
    held text;
BEGIN
    IF drill = '' OR scratch = '' OR scratch = 'public' THEN
        RAISE EXCEPTION 'give a role and a schema of its own'
            USING HINT = 'Nothing was changed. In schema public everybody may look at the tables of a drill.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = drill) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', drill);
    ELSIF EXISTS (SELECT FROM pg_roles WHERE rolname = drill
                  AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)) THEN
        EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', drill);
    END IF;
    SELECT string_agg(format('%s is a member of %s', drill, m.roleid::regrole), ', ') INTO held
    FROM pg_auth_members m JOIN pg_roles p ON p.oid = m.member AND p.rolname = drill;
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'rights through another role: %', held
            USING HINT = 'Nothing was changed. Take the membership away, or name another role, then run this again.';
    END IF;
    IF to_regnamespace(quote_ident(scratch)) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', scratch);
    END IF;
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', scratch);
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', scratch, drill);
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', current_database(), drill);

    SELECT string_agg(DISTINCT format('%s may %s %s', drill, a.privilege_type, c.oid::regclass), ', ') INTO held
    FROM pg_class c JOIN pg_roles p ON p.rolname = drill
         CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
    WHERE a.grantee = p.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relnamespace <> to_regnamespace(quote_ident(scratch))
      AND c.relpersistence <> 't';
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'rights on tables that are not of drills: %', held
            USING HINT = 'Nothing was changed. REVOKE them, or name another role, then run this again.';
    END IF;
    SELECT string_agg(DISTINCT format('%s', c.oid::regclass), ', ') INTO held
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> ALL (ARRAY['pg_catalog', 'information_schema', scratch])
      AND n.nspname !~ '^pg_' AND has_schema_privilege(drill, n.oid, 'USAGE')
      AND has_table_privilege(drill, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE');
    IF held IS NOT NULL THEN
        RAISE WARNING 'everybody may use these tables, and so may the role of drills: %', held
            USING HINT = 'REVOKE the rights of PUBLIC on what only some should see.';
    END IF;
    SELECT string_agg(quote_ident(n.nspname), ', ') INTO held FROM pg_namespace n
    WHERE n.nspname <> scratch AND n.nspname !~ '^pg_' AND has_schema_privilege(drill, n.oid, 'CREATE');
    IF held IS NOT NULL THEN
        RAISE WARNING 'everybody may create tables there, and so may the role of drills: %', held
            USING HINT = 'REVOKE CREATE ON SCHEMA … FROM PUBLIC; PostgreSQL 15 does so by itself for schema public.';
    END IF;
END
$$;
