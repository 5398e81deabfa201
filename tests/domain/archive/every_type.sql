-- One table with a column of every type that PostgreSQL can archive, under names that need quoting everywhere.
-- What a server lacks (XML without libxml, virtual columns before 18) is left out at the end.

CREATE SCHEMA "Odd {0} %s ""Schéma"" 😀";
SET search_path = "Odd {0} %s ""Schéma"" 😀";

CREATE TYPE "Mood's" AS ENUM ('happy', 'so "so"', 'sad, very', 'back\slash', ' spaced ', 'NULL', 'ünïcode 😀', '{}', E'tab\tand\nline');
CREATE TYPE "In.ner" AS ("A b" integer, "q""q" text, "c.c" "Mood's", whens timestamptz[]);
CREATE TYPE outer_type AS (one "In.ner", many "In.ner"[], j json, jb jsonb, n numeric(10, 2), f float8, gone integer, b bytea);
ALTER TYPE outer_type DROP ATTRIBUTE gone;

CREATE DOMAIN "Positive %" AS integer CHECK (VALUE > 0);
CREATE DOMAIN short_text AS varchar(12);
CREATE DOMAIN shorter_text AS short_text CHECK (length(VALUE) < 10);
CREATE DOMAIN int_list AS integer[];
CREATE DOMAIN mood_domain AS "Mood's";
CREATE DOMAIN when_domain AS timestamptz(3);
CREATE DOMAIN jsonb_domain AS jsonb;
CREATE DOMAIN pair_domain AS "In.ner";
CREATE DOMAIN bits_domain AS bit(3);

CREATE TYPE "Float Range" AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi);
CREATE TYPE text_range AS RANGE (SUBTYPE = text, COLLATION = "C");

CREATE TABLE "Every 100% Type's ""table"" {}" (
    gone_first integer,
    "I D" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "at {0} %s" timestamptz NOT NULL,

    v_bool bool, v_int2 int2, v_int4 int4, v_int8 int8,
    v_numeric numeric, v_numeric_10_2 numeric(10, 2), v_numeric_1000_500 numeric(1000, 500),
    v_numeric_12_8 numeric(12, 8), v_numeric_38_0 numeric(38, 0), v_numeric_39_2 numeric(39, 2),
    v_float4 float4, v_float8 float8, v_money money,

    v_text text, v_varchar varchar, v_varchar_20 varchar(20), v_char_8 char(8), v_bpchar bpchar, v_name name, v_single "char",
    v_text_c text COLLATE "C",
    gone_middle text DEFAULT 'gone',
    v_bytea bytea,

    v_date date, v_time time, v_time_3 time(3), v_timetz timetz, v_timestamp timestamp, v_timestamptz timestamptz,
    v_timestamptz_0 timestamptz(0),
    v_interval interval, v_interval_ym interval year to month, v_interval_ds3 interval day to second(3),

    v_enum "Mood's", v_uuid uuid,
    v_inet inet, v_cidr cidr, v_macaddr macaddr, v_macaddr8 macaddr8,
    v_bit bit, v_bit_9 bit(9), v_varbit varbit, v_varbit_9 varbit(9),

    v_json json, v_jsonb jsonb, v_jsonpath jsonpath, v_tsvector tsvector, v_tsquery tsquery,
    v_point point, v_line line, v_lseg lseg, v_box box, v_path path, v_polygon polygon, v_circle circle,
    v_pg_lsn pg_lsn, v_oid oid, v_xid8 xid8, v_txid_snapshot txid_snapshot, v_pg_snapshot pg_snapshot,
    v_int2vector int2vector, v_oidvector oidvector,

    v_int4range int4range, v_int8range int8range, v_numrange numrange, v_tsrange tsrange, v_tstzrange tstzrange,
    v_daterange daterange, v_floatrange "Float Range", v_textrange text_range,
    v_int4multirange int4multirange, v_int8multirange int8multirange, v_nummultirange nummultirange,
    v_tsmultirange tsmultirange, v_tstzmultirange tstzmultirange, v_datemultirange datemultirange,

    a_bool bool[], a_int int[], a_int_grid int[][], a_int8 int8[], a_float4 float4[], a_float8 float8[], a_numeric numeric[],
    a_text text[], a_varchar_5 varchar(5)[], a_char_3 char(3)[], a_name name[], a_bytea bytea[],
    a_timestamp timestamp[], a_timestamptz timestamptz[], a_date date[], a_interval interval[],
    a_enum "Mood's"[], a_uuid uuid[], a_inet inet[], a_bit bit(3)[], a_varbit varbit[],
    a_json json[], a_jsonb jsonb[], a_inner "In.ner"[], a_point point[], a_box box[], a_range int4range[], a_money money[],
    a_domain "Positive %"[], a_text_domain shorter_text[], a_int_list int_list[], a_enum_domain mood_domain[],
    a_jsonb_domain jsonb_domain[], a_int2vector int2vector[],

    d_int "Positive %", d_text shorter_text, d_list int_list, d_enum mood_domain, d_when when_domain, d_jsonb jsonb_domain,
    d_pair pair_domain, d_bits bits_domain,

    c_inner "In.ner", c_outer outer_type,

    " dots.and ""quotes"" " text, "100% {braces} {}" integer, "select" text, "'" text, "\" text, "ключ 键 🔑" text,
    t text, line text, r integer, l text, n integer, b text, k0 text, digest text,

    g_stored text GENERATED ALWAYS AS (v_text || '!') STORED,
    g_number numeric GENERATED ALWAYS AS (v_numeric_10_2 / 7) STORED,
    gone_last bytea
);
ALTER TABLE "Every 100% Type's ""table"" {}" DROP gone_first, DROP gone_middle, DROP gone_last;

DO $$
BEGIN
    PERFORM '<a/>'::text::xml;
    ALTER TABLE "Every 100% Type's ""table"" {}" ADD v_xml xml;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without libxml';
END
$$;

DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 180000 THEN
        EXECUTE $sql$
            ALTER TABLE "Every 100% Type's ""table"" {}" ADD g_virtual text GENERATED ALWAYS AS (v_text || '?') VIRTUAL
        $sql$;
    END IF;
END
$$;

CREATE TABLE restored (LIKE "Every 100% Type's ""table"" {}" INCLUDING ALL);
