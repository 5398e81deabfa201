INSERT INTO public.audit_events (
    created_at, actor, actor_name, actor_ip, session_id, action, entity, entity_id, succeeded, old_values, new_values,
    tags, message, duration_ms, request_sha256
)
SELECT m.at,
       CASE WHEN v.actor < 4 THEN 'svc-' || v.verb ELSE 'analyst' || lpad(v.actor::text, 3, '0') END,
       CASE WHEN v.actor >= 4 THEN pg_temp.person_name(v.actor * 7) END,
       CASE pg_temp.pick(m.stream, 10, m.ordinal, 10)
           WHEN 0 THEN NULL
           WHEN 1 THEN '10.20.0.0/16'::inet
           WHEN 2 THEN '2001:db8:9::'::inet + v.actor
           ELSE '10.20.0.0'::inet + v.actor
       END,
       CASE WHEN v.actor >= 4 THEN pg_temp.key(m.stream, 11, m.ordinal / 25) END,
       v.verb,
       v.entity,
       CASE WHEN v.verb <> 'login' THEN pg_temp.key(m.stream, 12, m.ordinal)::text END,
       pg_temp.pick(m.stream, 13, m.ordinal, 50) > 0,
       CASE WHEN v.verb IN ('update', 'delete') THEN v.record END,
       CASE
           WHEN v.verb = 'create' THEN v.record
           WHEN v.verb = 'update' THEN v.record || '{"status": "changed", "threshold": 66.40, "owner": null}'
           WHEN v.verb = 'delete' THEN 'null'
       END,
       CASE pg_temp.pick(m.stream, 14, m.ordinal, 6)
           WHEN 0 THEN NULL
           WHEN 1 THEN '{}'
           WHEN 2 THEN ARRAY['ncc', 'personal data', '']
           ELSE ARRAY[v.entity, v.verb]
       END,
       CASE
           WHEN mod(m.ordinal, 40) = 3 THEN pg_temp.odd_text(m.ordinal / 40)
           WHEN pg_temp.pick(m.stream, 15, m.ordinal, 2) = 0
           THEN v.verb || ' of ' || v.entity || ' by way of the console'
       END,
       CASE
           WHEN pg_temp.pick(m.stream, 16, m.ordinal, 5) > 0
           THEN pg_temp.pick_low(m.stream, 17, m.ordinal, 9000) / 7.0
       END,
       CASE
           WHEN pg_temp.pick(m.stream, 18, m.ordinal, 3) > 0
           THEN sha256(convert_to(m.stream || '/' || m.ordinal, 'UTF8'))
       END
FROM (
    SELECT %(stream)s::bigint AS stream, ordinal, at
    FROM pg_temp.moments(
        %(stream)s::bigint, %(month)s::timestamptz, %(next_month)s::timestamptz, %(wanted)s::bigint, %(made)s::bigint,
        %(filled_until)s::timestamptz, %(until)s::timestamptz, %(hour_marks)s::bigint[], %(total)s::bigint
    )
) AS m
CROSS JOIN LATERAL (
    SELECT pg_temp.pick_low(m.stream, 20, m.ordinal, 120) AS actor,
           (ARRAY['read', 'update', 'login', 'create', 'export', 'delete'])[
               1 + pg_temp.pick_low(m.stream, 21, m.ordinal, 6)
           ] AS verb,
           (ARRAY['alert', 'gateway', 'investigation', 'rule', 'report', 'user'])[
               1 + pg_temp.pick_low(m.stream, 22, m.ordinal, 6)
           ] AS entity
    OFFSET 0  -- computes each value once, not at every use
) AS w
CROSS JOIN LATERAL (
    SELECT w.actor,
           w.verb,
           w.entity,
           CASE
               WHEN w.verb IN ('create', 'update', 'delete')
               THEN jsonb_build_object(
                   'status', 'open',
                   'threshold', round(pg_temp.pick(m.stream, 23, m.ordinal, 10000) / 100.0, 2),
                   'owner', pg_temp.person_name(m.ordinal),
                   'reviewed', mod(m.ordinal, 2) = 0,
                   'numbers', '[12345678901234567890, -0.10, 0.0000001]'::jsonb
               )
           END AS record
    OFFSET 0
) AS v
