"""The providers, one folder each, all of the shape in `services.poller.provider`."""
