"""The API's SQL, one file a noun, all against published views."""
