-- Arrivals on a route, as known when a day begins in New York; windows of whole local days (a DST day has 23 or 25 hours).
-- The grid of days is dense, so that windows empty out; rows end three days (the TTL) after the window has.
WITH landed AS (
    SELECT
        route,
        -- The first local midnight at or after `known_at`.
        CAST(timezone('America/New_York', timezone('UTC', known_at)) + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND AS DATE)
            AS day,
        count(*) AS arrivals,
        count(*) FILTER (WHERE arr_delay > 15) AS late,
        CAST(sum(CAST(arr_delay AS BIGINT)) AS BIGINT) AS delay,
        CAST(sum(CAST(air_time AS BIGINT)) AS BIGINT) AS air_time
    FROM flights
    WHERE arr_delay IS NOT NULL AND known_at > $start - INTERVAL 32 DAY AND known_at < $end
    GROUP BY ALL
),
days AS (
    SELECT
        CAST(day AS DATE) AS day,
        timezone('UTC', timezone('America/New_York', day)) AS midnight
    FROM (
        SELECT
            CAST(timezone('America/New_York', timezone('UTC', $start)) AS DATE) AS first_day,
            CAST(timezone('America/New_York', timezone('UTC', $end)) AS DATE) AS last_day
    ), generate_series(first_day - INTERVAL 31 DAY, last_day, INTERVAL 1 DAY) AS series (day)
    WHERE timezone('UTC', timezone('America/New_York', day)) < $end
),
windows AS (
    SELECT
        route,
        midnight,
        arrivals AS arrivals_1d,
        late AS late_1d,
        delay AS delay_1d,
        sum(arrivals) OVER past_7d AS arrivals_7d,
        sum(late) OVER past_7d AS late_7d,
        sum(delay) OVER past_7d AS delay_7d,
        sum(arrivals) OVER past_28d AS arrivals_28d,
        sum(late) OVER past_28d AS late_28d,
        sum(delay) OVER past_28d AS delay_28d,
        sum(air_time) OVER past_28d AS air_time_28d,
        sum(arrivals) OVER past_31d AS arrivals_31d
    FROM (SELECT DISTINCT route FROM landed) CROSS JOIN days LEFT JOIN landed USING (route, day)
    WINDOW
        past_7d AS (PARTITION BY route ORDER BY midnight ROWS 6 PRECEDING),
        past_28d AS (PARTITION BY route ORDER BY midnight ROWS 27 PRECEDING),
        past_31d AS (PARTITION BY route ORDER BY midnight ROWS 30 PRECEDING)
)
SELECT
    route,
    midnight AS event_timestamp,
    midnight AS known_at,
    late_1d / arrivals_1d AS route_late_share_1d,
    late_7d / arrivals_7d AS route_late_share_7d,
    late_28d / arrivals_28d AS route_late_share_28d,
    delay_1d / arrivals_1d AS route_mean_delay_1d,
    delay_7d / arrivals_7d AS route_mean_delay_7d,
    delay_28d / arrivals_28d AS route_mean_delay_28d,
    air_time_28d / arrivals_28d AS route_mean_air_time_28d,
    coalesce(arrivals_28d, 0) AS route_arrivals_28d
FROM windows
WHERE midnight >= $start AND arrivals_31d > 0
