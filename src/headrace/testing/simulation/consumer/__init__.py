"""A model of librdkafka's consumer, as its application observes it, over the model broker."""
