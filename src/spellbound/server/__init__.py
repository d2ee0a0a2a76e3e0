"""OpenAI-compatible HTTP over models here or behind another server, and stories as typed events."""
