"""One script, three Kafkas: the model, the embedded broker and a real one must tell the same story."""
