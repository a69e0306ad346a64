-- An hour's weather at an airport of departure; it may be used once the hour is over (`known_at`).
SELECT
    origin,
    time_hour AS event_timestamp,
    known_at,
    temp,
    dewp,
    humid,
    wind_speed,
    precip,
    pressure,
    visib
FROM weather
WHERE time_hour >= $start AND time_hour < $end
