-- Year built (0 and other impossible years mean unknown) and seats; true since for ever, as far as flights are concerned.
SELECT
    tailnum,
    TIMESTAMP '1970-01-01' AS event_timestamp,
    TIMESTAMP '1970-01-01' AS known_at,
    CASE WHEN year >= 1920 THEN year END AS plane_year,
    seats AS plane_seats
FROM planes
