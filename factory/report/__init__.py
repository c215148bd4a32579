"""What a run tells people: the report, and the cards of its data sets."""
