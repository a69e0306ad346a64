"""Flight duration: how many minutes in the air? The same chain as every use case, with its own YAML."""

from millrace_airflow.groups import UseCaseDags

duration = UseCaseDags("flight_duration")

with duration.train_dag():
    training_set = duration.build_training_set()
    candidates = duration.train_candidates(training_set)
    evaluation = duration.evaluate_candidates(training_set, candidates)
    verdict = duration.check_gates(evaluation)
    registered = duration.register_model(evaluation, verdict)
    approval = duration.approve_release(evaluation, verdict, registered)
    release = duration.release_model(evaluation, verdict, registered, approval)
    duration.deploy_release(release) >> duration.verify_deployment()

with duration.score_dag():
    duration.score_partition()

with duration.monitor_dag():
    labels = duration.join_labels()
    drift = duration.measure_drift()
    performance = duration.measure_performance()
    labels >> [drift, performance]
    duration.decide_retraining(drift, performance, duration.measure_freshness(), duration.measure_skew())
    duration.reconcile_registry()

with duration.rollback_dag():
    restored = duration.rollback_release()
    duration.deploy_release(restored) >> duration.verify_deployment()
