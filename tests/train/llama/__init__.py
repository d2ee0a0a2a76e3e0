"""What llama.cpp makes of our GGUF files."""
