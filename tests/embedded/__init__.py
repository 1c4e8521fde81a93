"""Tests on the embedded broker: a real client against librdkafka's mock cluster, in this process."""
