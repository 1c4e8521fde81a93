"""Groups on a real Kafka whose members are of several clients and languages."""
