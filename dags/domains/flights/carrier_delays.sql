-- Arrivals of a carrier, as known at each full hour: a flight counts from the hour after it had landed (`known_at`).
-- The grid of hours is dense, so that windows empty out; rows end two days (the TTL) after the longest has.
-- Counts and whole minutes are summed as integers: the same numbers in any order and for any split into partitions.
WITH landed AS (
    SELECT
        carrier,
        date_trunc('hour', known_at + INTERVAL 1 HOUR - INTERVAL 1 MICROSECOND) AS known_hour,
        count(*) AS arrivals,
        count(*) FILTER (WHERE arr_delay > 15) AS late,
        CAST(sum(CAST(arr_delay AS BIGINT)) AS BIGINT) AS delay
    FROM flights
    WHERE arr_delay IS NOT NULL AND known_at > $start - INTERVAL 30 DAY AND known_at < $end
    GROUP BY ALL
),
grid AS (
    SELECT carrier, hour.known_hour
    FROM (SELECT DISTINCT carrier FROM landed),
        generate_series($start - INTERVAL 30 DAY, $end - INTERVAL 1 HOUR, INTERVAL 1 HOUR) AS hour (known_hour)
),
windows AS (
    SELECT
        carrier,
        known_hour,
        sum(arrivals) OVER past_1d AS arrivals_1d,
        sum(late) OVER past_1d AS late_1d,
        sum(delay) OVER past_1d AS delay_1d,
        sum(arrivals) OVER past_7d AS arrivals_7d,
        sum(late) OVER past_7d AS late_7d,
        sum(delay) OVER past_7d AS delay_7d,
        sum(arrivals) OVER past_28d AS arrivals_28d,
        sum(late) OVER past_28d AS late_28d,
        sum(delay) OVER past_28d AS delay_28d,
        sum(arrivals) OVER past_30d AS arrivals_30d
    FROM grid LEFT JOIN landed USING (carrier, known_hour)
    WINDOW
        past_1d AS (PARTITION BY carrier ORDER BY known_hour ROWS 23 PRECEDING),
        past_7d AS (PARTITION BY carrier ORDER BY known_hour ROWS 167 PRECEDING),
        past_28d AS (PARTITION BY carrier ORDER BY known_hour ROWS 671 PRECEDING),
        past_30d AS (PARTITION BY carrier ORDER BY known_hour ROWS 719 PRECEDING)
)
SELECT
    carrier,
    known_hour AS event_timestamp,
    known_hour AS known_at,
    late_1d / arrivals_1d AS carrier_late_share_1d,
    late_7d / arrivals_7d AS carrier_late_share_7d,
    late_28d / arrivals_28d AS carrier_late_share_28d,
    delay_1d / arrivals_1d AS carrier_mean_delay_1d,
    delay_7d / arrivals_7d AS carrier_mean_delay_7d,
    delay_28d / arrivals_28d AS carrier_mean_delay_28d,
    coalesce(arrivals_1d, 0) AS carrier_arrivals_1d
FROM windows
WHERE known_hour >= $start AND arrivals_30d > 0
