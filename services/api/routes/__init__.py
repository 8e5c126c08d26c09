"""The API's routes, one file a noun."""
