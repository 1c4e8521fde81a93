"""Kafka through confluent-kafka: beside `testing` the only place that imports it.

`consumer` and `producer` fill in `ports`; `admin` asks for lag; `settings` says what librdkafka is told and `failures`
what its errors mean. Refuses to decide what to consume, commit or retry.
"""
