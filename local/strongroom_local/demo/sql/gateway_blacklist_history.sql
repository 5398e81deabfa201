INSERT INTO public.gateway_blacklist_history (
    gateway_ip, created_at, action, carrier, country, blocked_networks, blocked_ports, fraud_ratio, valid_for,
    expires_at, reason, changed_by, details
)
SELECT pg_temp.gateway(v.gateway),
       m.at,
       v.action,
       CASE
           WHEN pg_temp.pick(m.stream, 10, m.ordinal, 8) > 0
           THEN (ARRAY['Ìlú Transit', 'Sahel Wholesale', 'Oké-Odò "VoIP" Ltd', 'Ɗan Arewa\Carriers', 'Ụmụnna Voice'])[
               1 + mod(v.gateway, 5)
           ]
       END,
       CASE WHEN mod(v.gateway, 7) > 0 THEN (ARRAY['NG', 'GB', 'US', 'GH', 'NE', 'BJ'])[mod(v.gateway, 7)] END,
       CASE
           WHEN v.action = 'delisted' THEN '{}'::cidr[]
           ELSE ARRAY[
               network(set_masklen('198.18.0.0'::inet + v.gateway, 24))::cidr,
               network(set_masklen('2001:db8:acc::'::inet + v.gateway, 64))::cidr
           ]
       END,
       CASE pg_temp.pick(m.stream, 11, m.ordinal, 4)
           WHEN 0 THEN NULL
           WHEN 1 THEN 'empty'
           WHEN 2 THEN int4range(5060, NULL)
           ELSE int4range(5060, 5062)
       END,
       CASE WHEN v.action <> 'delisted' THEN pg_temp.pick(m.stream, 12, m.ordinal, 1000001) / 1000000.0 END,
       v.valid_for,
       CASE WHEN v.valid_for IS NULL AND v.action = 'listed' THEN 'infinity' ELSE m.at + v.valid_for END,
       CASE
           WHEN mod(m.ordinal, 40) = 3 THEN pg_temp.odd_text(m.ordinal / 40)
           WHEN pg_temp.pick(m.stream, 13, m.ordinal, 3) > 0
           THEN 'Masked numbers from ' || host(pg_temp.gateway(v.gateway))
       END,
       CASE WHEN v.action = 'extended' THEN 'svc-blacklist' ELSE pg_temp.person_name(v.gateway * 3) END,
       CASE
           WHEN pg_temp.pick(m.stream, 14, m.ordinal, 4) > 0
           THEN jsonb_build_object('attempts', pg_temp.pick_low(m.stream, 15, m.ordinal, 90000), 'ticket', NULL)
       END
FROM (
    SELECT %(stream)s::bigint AS stream, ordinal, at
    FROM pg_temp.moments(
        %(stream)s::bigint, %(month)s::timestamptz, %(next_month)s::timestamptz, %(wanted)s::bigint, %(made)s::bigint,
        %(filled_until)s::timestamptz, %(until)s::timestamptz, %(hour_marks)s::bigint[], %(total)s::bigint
    )
) AS m
CROSS JOIN LATERAL (
    SELECT pg_temp.pick_low(m.stream, 16, m.ordinal, 2000) AS gateway,
           (ARRAY['listed', 'extended', 'delisted'])[1 + pg_temp.pick_low(m.stream, 17, m.ordinal, 3)] AS action,
           (ARRAY[
               interval '30 days', interval '6 months', interval '1 year 2 months', interval '72:30:00.5', NULL
           ])[1 + pg_temp.pick(m.stream, 18, m.ordinal, 5)] AS valid_for
    OFFSET 0  -- computes each value once, not at every use
) AS v
