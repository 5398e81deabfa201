INSERT INTO public.call_detail_records (
    call_reference, call_start_time, answer_time, duration_seconds, direction, calling_number, called_number,
    presented_number, imsi, cell_id, gateway_ip, codecs, charge, hangup_cause, quality, remark
)
SELECT pg_temp.key(m.stream, 10, m.ordinal),
       m.at,
       CASE
           WHEN v.seconds > 0
           THEN m.at + (1500 + pg_temp.pick_low(m.stream, 11, m.ordinal, 28000)) * interval '1 millisecond'
       END,
       v.seconds,
       v.direction,
       CASE
           WHEN v.direction = 'international-in' THEN pg_temp.foreign_number(v.caller)
           ELSE pg_temp.subscriber_number(v.caller)
       END,
       CASE
           WHEN v.direction = 'international-out' THEN pg_temp.foreign_number(v.callee)
           ELSE pg_temp.subscriber_number(v.callee)
       END,
       CASE pg_temp.pick(m.stream, 12, m.ordinal, 20)
           WHEN 0 THEN 'anonymous'
           WHEN 1 THEN pg_temp.subscriber_number(v.callee + 1)
       END,
       CASE WHEN v.direction <> 'international-in' THEN '62199' || lpad(v.caller::text, 10, '0') END,
       CASE WHEN pg_temp.pick(m.stream, 13, m.ordinal, 8) > 0 THEN '621-99-' || v.caller / 100 END,
       pg_temp.gateway(pg_temp.pick_low(m.stream, 14, m.ordinal, 2000)),
       CASE pg_temp.pick(m.stream, 15, m.ordinal, 4)
           WHEN 0 THEN '{AMR-WB,AMR}'::text[]
           WHEN 1 THEN '{G.711,"telephone-event/8000"}'
           WHEN 2 THEN '{}'
           ELSE '{AMR}'
       END,
       -- Charged per started second: 11 kobo in Nigeria, 66.40 naira a minute abroad, rounded as on an invoice.
       CASE
           WHEN v.direction = 'international-in' THEN 0
           WHEN v.direction = 'international-out' THEN ((v.seconds + 59) / 60) * 66.40
           ELSE v.seconds * 0.11
       END,
       CASE
           WHEN v.seconds > 0 THEN 16
           ELSE (ARRAY[17, 19, 21, 27, 34])[1 + pg_temp.pick(m.stream, 16, m.ordinal, 5)]
       END,
       CASE
           WHEN v.seconds > 0 AND pg_temp.pick(m.stream, 17, m.ordinal, 5) > 0
           THEN jsonb_build_object(
               'mos', round((100 + pg_temp.pick(m.stream, 18, m.ordinal, 401)) / 100.0, 2),
               'jitter_ms', pg_temp.pick_low(m.stream, 19, m.ordinal, 80),
               'lost', pg_temp.pick_low(m.stream, 20, m.ordinal, 300)
           )
       END,
       CASE WHEN mod(m.ordinal, 200) = 3 THEN pg_temp.odd_text(m.ordinal / 200) END
FROM (
    SELECT %(stream)s::bigint AS stream, ordinal, at
    FROM pg_temp.moments(
        %(stream)s::bigint, %(month)s::timestamptz, %(next_month)s::timestamptz, %(wanted)s::bigint, %(made)s::bigint,
        %(filled_until)s::timestamptz, %(until)s::timestamptz, %(hour_marks)s::bigint[], %(total)s::bigint
    )
) AS m
CROSS JOIN LATERAL (
    SELECT (CASE
               WHEN pg_temp.pick(m.stream, 21, m.ordinal, 100) < 62
               THEN pg_temp.pick_low(m.stream, 22, m.ordinal, 1800)
               ELSE 0
           END)::integer AS seconds,
           (ARRAY['on-net', 'off-net', 'international-in', 'international-out'])[
               1 + pg_temp.pick_low(m.stream, 23, m.ordinal, 4)
           ]::public.call_direction AS direction,
           pg_temp.pick_low(m.stream, 24, m.ordinal, 250000) AS caller,
           pg_temp.pick(m.stream, 25, m.ordinal, 250000) AS callee
    OFFSET 0  -- computes each value once, not at every use
) AS v
