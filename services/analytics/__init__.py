"""Analytics: projects the log into read models and concludes facts from it."""
