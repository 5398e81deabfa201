INSERT INTO public.acm_alerts (
    alert_id, detected_at, severity, rule_code, matched_rules, fraud_score, calling_number, called_number,
    presented_number, subscriber_name, gateway_ip, cell_id, calls_in_window, answer_ratio, evidence, remark,
    acknowledged_at
)
SELECT pg_temp.key(m.stream, 10, m.ordinal),
       m.at,
       (CASE
           WHEN v.score >= 9000 THEN 'critical'
           WHEN v.score >= 7000 THEN 'high'
           WHEN v.score >= 4000 THEN 'medium'
           ELSE 'low'
       END)::public.alert_severity,
       'ACM-' || lpad(v.rule::text, 3, '0'),
       CASE pg_temp.pick(m.stream, 11, m.ordinal, 5)
           WHEN 0 THEN '{}'
           WHEN 1 THEN ARRAY['ACM-' || lpad(v.rule::text, 3, '0'), 'SIMBOX, "burst"', NULL]
           ELSE ARRAY['ACM-' || lpad(v.rule::text, 3, '0'), 'CLI-MISMATCH']
       END,
       v.score / 100.0,
       pg_temp.subscriber_number(v.subscriber),
       pg_temp.subscriber_number(pg_temp.pick(m.stream, 12, m.ordinal, 250000)),
       CASE
           WHEN pg_temp.pick(m.stream, 13, m.ordinal, 4) > 0
           THEN pg_temp.foreign_number(pg_temp.pick(m.stream, 14, m.ordinal, 100000))
       END,
       CASE WHEN pg_temp.pick(m.stream, 15, m.ordinal, 10) > 0 THEN pg_temp.person_name(v.subscriber) END,
       pg_temp.gateway(v.gateway),
       CASE WHEN pg_temp.pick(m.stream, 16, m.ordinal, 3) > 0 THEN '621-99-' || v.subscriber / 100 END,
       v.calls,
       CASE
           WHEN pg_temp.pick(m.stream, 17, m.ordinal, 12) > 0
           THEN pg_temp.pick(m.stream, 18, m.ordinal, 1000000) / 1000003::double precision
       END,
       jsonb_build_object(
           'score', round(v.score / 100.0, 2),
           'calls', v.calls,
           'first_hop', host(pg_temp.gateway(v.gateway)),
           'signalling', jsonb_build_array('INVITE', '183', NULL, v.rule),
           'analyst', pg_temp.person_name(m.ordinal)
       ),
       CASE
           WHEN mod(m.ordinal, 40) = 3 THEN pg_temp.odd_text(m.ordinal / 40)
           WHEN pg_temp.pick(m.stream, 19, m.ordinal, 3) = 0
           THEN 'Burst of ' || v.calls || ' calls behind ' || host(pg_temp.gateway(v.gateway))
       END,
       CASE WHEN v.acknowledged_at < %(now)s::timestamptz THEN v.acknowledged_at END
FROM (
    SELECT %(stream)s::bigint AS stream, ordinal, at
    FROM pg_temp.moments(
        %(stream)s::bigint, %(month)s::timestamptz, %(next_month)s::timestamptz, %(wanted)s::bigint, %(made)s::bigint,
        %(filled_until)s::timestamptz, %(until)s::timestamptz, %(hour_marks)s::bigint[], %(total)s::bigint
    )
) AS m
CROSS JOIN LATERAL (
    SELECT pg_temp.pick(m.stream, 22, m.ordinal, 10001) AS score,
           1 + pg_temp.pick_low(m.stream, 23, m.ordinal, 24) AS rule,
           pg_temp.pick(m.stream, 24, m.ordinal, 250000) AS subscriber,
           pg_temp.pick_low(m.stream, 25, m.ordinal, 2000) AS gateway,
           (5 + pg_temp.pick_low(m.stream, 26, m.ordinal, 800))::integer AS calls,
           CASE
               WHEN pg_temp.pick(m.stream, 20, m.ordinal, 10) > 2
               THEN m.at + pg_temp.pick_low(m.stream, 21, m.ordinal, 172800000) * interval '1 millisecond'
           END AS acknowledged_at
    OFFSET 0  -- computes each value once, not at every use
) AS v
