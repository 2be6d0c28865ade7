"""`asr serve`: OpenAI's transcription API, words while one speaks, and a page, over HTTP."""
