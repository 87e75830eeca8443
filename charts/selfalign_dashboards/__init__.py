"""The Grafana dashboards, written in grafana-foundation-sdk; `make dashboards` writes the JSON that the chart carries.

Every query works on what is scraped, with or without the recording rules.
"""
