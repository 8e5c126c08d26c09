"""The query side and the front door for people: REST, WebSocket and pages over the published views."""
