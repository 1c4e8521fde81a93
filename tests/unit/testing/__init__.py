"""What users test with, without any broker."""
