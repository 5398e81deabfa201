-- Temporary functions of the generator; they end with its session.
-- A value is a hash of (stream, attribute, ordinal), never random():
-- the same seed gives the same rows whatever the query plan.
-- A stream stands for one seed, table and month. An attribute is a small number that separates the columns of a row.

-- A whole number 0 <= n < sides. The ordinal is hashed; the rest seeds the hash.
CREATE OR REPLACE FUNCTION pg_temp.pick(stream bigint, attribute bigint, ordinal bigint, sides bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT mod(hashint8extended(ordinal, stream # attribute) & 9223372036854775807, sides)
$$;

-- Like pick(), but small values are far more common than large ones (the square of an even spread).
CREATE OR REPLACE FUNCTION pg_temp.pick_low(stream bigint, attribute bigint, ordinal bigint, sides bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT sides
           * pg_temp.pick(stream, attribute, ordinal, 32768)
           * pg_temp.pick(stream, attribute, ordinal, 32768)
           / 1073741824
$$;

-- A key that a repeated run derives again; it looks like a version 4 UUID, as the column default would.
CREATE OR REPLACE FUNCTION pg_temp.key(stream bigint, attribute bigint, ordinal bigint)
RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT overlay(
               overlay(md5(stream || '/' || attribute || '/' || ordinal) PLACING '4' FROM 13) PLACING 'a' FROM 17
           )::uuid
$$;

-- +234 99… lies outside the mobile ranges 70, 80, 81, 90 and 91: it looks Nigerian but reaches nobody.
CREATE OR REPLACE FUNCTION pg_temp.subscriber_number(subscriber bigint)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT '+23499' || lpad(mod(subscriber * 48271 + 7919, 100000000)::text, 8, '0')
$$;

-- Ranges that Ofcom and the North American plan reserve for fiction.
CREATE OR REPLACE FUNCTION pg_temp.foreign_number(n bigint)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE mod(n, 2)
        WHEN 0 THEN '+447700900' || lpad(mod(n, 1000)::text, 3, '0')
        ELSE '+120255501' || lpad(mod(n, 100)::text, 2, '0')
    END
$$;

-- Yoruba, Igbo and Hausa names with all their marks, in both composed and combining characters.
CREATE OR REPLACE FUNCTION pg_temp.person_name(subscriber bigint)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY[
        'Adébáyọ̀', 'Olúwaṣeun', 'Títílayọ̀', 'Ṣadé', 'Ọmọtọ́lá', 'Fúnmiláyọ̀', 'Kọ́láwọlé', 'Abísọ́lá',
        'Chukwuemeka', 'Ngọzi', 'Ifeọma', 'Ụzọma', 'Ńkechi', 'Obiọra', 'Chị̀dị', 'Adaọra',
        'Ɗanladi', 'Haɗiza', 'Ƙasimu', 'Yaƙubu', 'Ƴarima', 'Aisha', 'Muɗassir', 'Saʼadatu'
    ])[1 + mod(subscriber, 24)] || ' ' || (ARRAY[
        'Adéyẹmí', 'Ọládàpọ̀', 'Ògúnṣọlá', 'Àjàyí', 'Ẹ̀bùn', 'Okonkwọ', 'Ọkáfọ̀', 'Nwaṅkwọ', 'Ezeụgwu', 'Ụmeh',
        'Ɓaƙo', 'Ɗanjuma', 'Maiƙano', 'Garba', 'Tsoho-Ƙarami', 'O''Brien-Ẹkúndayọ̀', 'Bello'
    ])[1 + mod(subscriber / 24, 17)]
$$;

-- IPv4 and IPv6 addresses reserved for benchmarks and documentation.
CREATE OR REPLACE FUNCTION pg_temp.gateway(n bigint)
RETURNS inet LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE mod(n, 8)
        WHEN 0 THEN '2001:db8:acc::'::inet + n
        ELSE '198.18.0.1'::inet + n
    END
$$;

-- Text as people paste it: things that break quoting, escaping, line splitting or encoding detection.
CREATE OR REPLACE FUNCTION pg_temp.odd_text(n bigint)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY[
        '',
        ' leading and trailing ',
        E'first line\nsecond line\r\nthird\rfourth',
        E'tab\there\tand there',
        E'C:\\switch\\logs\\new',
        E'\\N',
        E'\\.',
        'NULL',
        'She said "it''s masked", then hung up',
        '''; DROP TABLE acm_alerts; --',
        '{"not": ["json", 66.40',
        '👩🏾‍💻 opened the case 🇳🇬 ☎️',
        'a𝄞b 🤙🏿',
        'أُجَامِي من اليمين إلى اليسار',
        E'e\u0301 \u00e9 \u1ecd\u0300',
        E'line\u2028paragraph\u2029next\u0085end',
        E'\ufeffmarked',
        E'\u0001quote\u0002delimiter\u001fseparator\u007f',
        E'zero\u200bwidth\u00a0space',
        E'\U0010FFFF\uFFFD',
        '100 % & <b>bold</b> %s {0} $1 ${HOME}',
        'ọ̀rọ̀ gígùn ' || repeat('Ọ̀ṣun–Ògùn ', 40)
    ])[1 + mod(n, 22)]
$$;

-- The moments of one month that this call has to fill, oldest first, each with the ordinal that its row derives from.
--   wanted: the month has ordinals up to this one; made: earlier calls made ordinals up to this one
--   filled_until: earlier calls made the rows before it; until: this call makes the rows before it
--   hour_marks: running sums of the weights of the month's hours, without the first 0 and the total; total: that total
-- The first two ordinals lie on the exact edges of the month, where an off-by-one error would show.
CREATE OR REPLACE FUNCTION pg_temp.moments(
    stream bigint, month timestamptz, next_month timestamptz, wanted bigint, made bigint,
    filled_until timestamptz, until timestamptz, hour_marks bigint[], total bigint
)
RETURNS TABLE (ordinal bigint, at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT o.ordinal, o.at
    FROM (
        SELECT n AS ordinal,
               CASE n
                   WHEN 1 THEN month
                   WHEN 2 THEN next_month - interval '1 microsecond'
                   ELSE month
                        + width_bucket(pg_temp.pick(stream, 1, n, total), hour_marks) * interval '1 hour'
                        + pg_temp.pick(stream, 2, n, 3600000000) * interval '1 microsecond'
               END AS at
        FROM generate_series(1, wanted) AS n
    ) AS o
    WHERE o.at < until AND (o.ordinal > made OR o.at >= filled_until)
    ORDER BY o.at, o.ordinal
$$;
