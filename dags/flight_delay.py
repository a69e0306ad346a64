"""Flight delay: will it arrive more than 15 minutes late? From training to rollback."""

from millrace_airflow.groups import UseCaseDags

delay = UseCaseDags("flight_delay")

with delay.train_dag():
    training_set = delay.build_training_set()
    candidates = delay.train_candidates(training_set)
    evaluation = delay.evaluate_candidates(training_set, candidates)
    verdict = delay.check_gates(evaluation)
    registered = delay.register_model(evaluation, verdict)
    approval = delay.approve_release(evaluation, verdict, registered)
    release = delay.release_model(evaluation, verdict, registered, approval)
    delay.deploy_release(release) >> delay.verify_deployment()

with delay.import_dag():
    training_set = delay.build_training_set()
    candidates = [delay.import_model(training_set), *delay.train_beside(training_set)]
    evaluation = delay.evaluate_candidates(training_set, candidates)
    verdict = delay.check_gates(evaluation)
    registered = delay.register_model(evaluation, verdict)
    approval = delay.approve_release(evaluation, verdict, registered, again=False)
    release = delay.release_model(evaluation, verdict, registered, approval, again=False)
    delay.deploy_release(release) >> delay.verify_deployment()

with delay.score_dag():
    delay.score_partition()

with delay.monitor_dag():
    labels = delay.join_labels()
    drift = delay.measure_drift()
    performance = delay.measure_performance()
    labels >> [drift, performance]
    delay.decide_retraining(drift, performance, delay.measure_freshness(), delay.measure_skew())
    delay.reconcile_registry()

with delay.rollback_dag():
    restored = delay.rollback_release()
    delay.deploy_release(restored) >> delay.verify_deployment()
