"""The tests, by what they need: unit (nothing), embedded (librdkafka's mock cluster), kafka (a real broker), full (time)."""
