"""Flights out of New York: a month of data a run, from the source to the feature store."""

from millrace_airflow.groups import DomainDags

flights = DomainDags("flights")

with flights.data() as flights_data:
    flights.sources() >> flights.build_features() >> flights.materialize_features()  # type: ignore[operator]

with flights.replay():
    replayed = flights.replay_quarantine()
    flights.recompute(flights.list_stale_partitions(replayed))
