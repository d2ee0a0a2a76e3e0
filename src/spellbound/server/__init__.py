"""OpenAI-compatible HTTP over a model in this process, stories as typed events. Needs the extra `studio`."""
