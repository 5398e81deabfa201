-- An investigation refers to the last alert before a moment up to three weeks earlier. One in three started with a
-- complaint instead and has no alert. The lock stops a concurrent archiver from deleting the alert.
INSERT INTO public.fraud_investigations (
    investigation_id, created_at, alert_id, status, investigator, subject_name, subject_number, observed,
    estimated_loss, recovered, related_numbers, evidence, findings, due_on, closed_at
)
SELECT pg_temp.key(m.stream, 10, m.ordinal),
       m.at,
       a.alert_id,
       (CASE
           WHEN v.closed_at IS NULL
           THEN (ARRAY['open', 'assigned', 'escalated'])[1 + pg_temp.pick(m.stream, 11, m.ordinal, 3)]
           ELSE (ARRAY['confirmed', 'unfounded'])[1 + pg_temp.pick(m.stream, 12, m.ordinal, 2)]
       END)::public.investigation_status,
       pg_temp.person_name(pg_temp.pick_low(m.stream, 13, m.ordinal, 60)),
       CASE WHEN pg_temp.pick(m.stream, 14, m.ordinal, 6) > 0 THEN pg_temp.person_name(v.subject) END,
       pg_temp.subscriber_number(v.subject),
       CASE pg_temp.pick(m.stream, 15, m.ordinal, 5)
           WHEN 0 THEN NULL
           WHEN 1 THEN tstzrange(v.seen_at, NULL)
           ELSE tstzrange(v.seen_at, m.at, '[]')
       END,
       v.loss,
       CASE WHEN v.loss > 0 AND v.closed_at IS NOT NULL THEN round(v.loss / 3, 2) ELSE 0 END,
       CASE
           WHEN pg_temp.pick(m.stream, 16, m.ordinal, 3) > 0
           THEN ARRAY[pg_temp.subscriber_number(v.subject + 1), pg_temp.foreign_number(v.subject)]
       END,
       CASE
           WHEN pg_temp.pick(m.stream, 17, m.ordinal, 4) > 0
           THEN jsonb_build_object(
               'loss_ngn', v.loss, 'calls', jsonb_build_array(v.subject, 0.10, true), 'note', 'Ọ̀ràn 🔎'
           )
       END,
       CASE
           WHEN mod(m.ordinal, 40) = 3 THEN pg_temp.odd_text(m.ordinal / 40)
           WHEN v.closed_at IS NOT NULL
           THEN E'Traffic of ' || pg_temp.subscriber_number(v.subject) || E' was compared with its cell.\nResult filed.'
       END,
       (m.at AT TIME ZONE 'UTC')::date + 30,
       v.closed_at
FROM (
    SELECT %(stream)s::bigint AS stream, ordinal, at
    FROM pg_temp.moments(
        %(stream)s::bigint, %(month)s::timestamptz, %(next_month)s::timestamptz, %(wanted)s::bigint, %(made)s::bigint,
        %(filled_until)s::timestamptz, %(until)s::timestamptz, %(hour_marks)s::bigint[], %(total)s::bigint
    )
) AS m
CROSS JOIN LATERAL (
    SELECT pg_temp.pick(m.stream, 18, m.ordinal, 250000) AS subject,
           m.at - interval '10 minutes'
               - pg_temp.pick_low(m.stream, 19, m.ordinal, 1814400) * interval '1 second' AS seen_at,
           CASE
               WHEN pg_temp.pick(m.stream, 20, m.ordinal, 10) > 0
               THEN round(pg_temp.pick_low(m.stream, 21, m.ordinal, 900000000) / 100.0, 2)
           END AS loss,
           CASE
               WHEN pg_temp.pick(m.stream, 22, m.ordinal, 10) > 2
               THEN m.at + pg_temp.pick(m.stream, 23, m.ordinal, 2592000) * interval '1 second'
           END AS closing_at
    OFFSET 0  -- computes each value once, not at every use
) AS w
CROSS JOIN LATERAL (
    SELECT w.subject,
           w.seen_at,
           w.loss,
           CASE WHEN w.closing_at < %(now)s::timestamptz THEN w.closing_at END AS closed_at
) AS v
LEFT JOIN LATERAL (
    SELECT alert_id
    FROM public.acm_alerts
    WHERE detected_at <= v.seen_at
      AND detected_at > v.seen_at - interval '7 days'
      AND pg_temp.pick(m.stream, 24, m.ordinal, 3) > 0
    ORDER BY detected_at DESC
    LIMIT 1
    FOR KEY SHARE
) AS a ON true
